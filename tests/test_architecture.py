"""The house as docs/architecture.md draws it: which part may import which, no circle, no file that is two."""

import ast
import importlib
import inspect
import pathlib
import tomllib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "cplus1_keras"
FILES = {
    ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
FORBIDDEN = {
    "losses": ("data", "tasks", "serving", "run", "experiment", "configs", "calibration"),
    "images": ("losses", "data", "tasks", "serving", "run", "experiment", "configs", "models", "heads", "calibration"),
    "heads": ("losses", "data", "tasks", "serving", "run", "experiment", "configs"),
    "layers": ("losses", "data", "tasks", "serving", "run", "experiment", "configs"),
    "metrics": ("data", "tasks", "serving", "run", "experiment", "configs", "models"),
    "calibration": ("data", "tasks", "serving", "run", "experiment", "configs", "models"),
    "posthoc": ("losses", "data", "tasks", "serving", "run", "experiment", "configs", "calibration", "models"),
    "data": ("losses", "tasks", "serving", "run", "experiment", "configs", "models"),
    "serving": ("tasks", "run", "experiment", "configs", "data", "losses", "plots"),
    "tasks": ("run", "experiment", "configs", "monitoring", "reporting", "report"),
    "monitoring": ("run", "experiment", "configs", "data", "losses"),
    "reporting": ("data", "tasks", "serving", "run", "experiment", "configs", "models", "losses", "heads", "layers"),
    "bulk": ("losses", "tasks", "run", "experiment", "configs", "models", "plots"),
    "watch": ("data", "tasks", "serving", "run", "experiment", "configs", "models"),
}
"""What a part must not know, by docs/architecture.md."""


def imports(path, inside_functions):
    """Modules of the package that a file imports."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    nodes = ast.walk(tree) if inside_functions else tree.body
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in FILES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in FILES}
    return found


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_parts_do_not_know_what_lies_above_them(part):
    for module, path in FILES.items():
        if module.split(".")[1:2] != [part]:
            continue
        known = {name.split(".")[1] for name in imports(path, inside_functions=True) if "." in name}
        assert not known & set(FORBIDDEN[part]), module


def test_there_is_no_circle():
    graph = {module: imports(path, inside_functions=False) - {module} for module, path in FILES.items()}
    del graph[PACKAGE.name]  # it gathers what users want at hand
    done, open_ = set(), []

    def visit(module):
        assert module not in open_, f"a circle: {' -> '.join([*open_[open_.index(module) :], module])}"
        if module in done:
            return
        open_.append(module)
        for other in graph.get(module, ()):
            visit(other)
        done.add(open_.pop())

    for module in graph:
        visit(module)


def test_no_module_is_named_by_a_string_and_no_file_is_too_long():
    for path in FILES.values():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, path
        if "configs" not in path.parts:  # configs are found by the names that a person types
            assert "import_module(" not in text, path


PARTS = (
    "backbones bulk calibration data data.sources heads images layers losses metrics models monitoring numerics plots "
    "posthoc reporting serving tasks"
)


@pytest.mark.parametrize("part", PARTS.split())
def test_no_name_means_two_things(part):
    """Nothing that a part gives hides one of its modules, as a function `cplus1` would a module of that name."""
    package = importlib.import_module(f"{PACKAGE.name}.{part}")
    for module in FILES:
        if module.rpartition(".")[0] == package.__name__:
            own = getattr(package, module.rpartition(".")[2], None)  # None where the package does not import it
            assert own is None or inspect.ismodule(own), module


def test_text_is_read_and_written_as_utf_8_whatever_the_machine_prefers():
    for path in FILES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            mode = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            text = name in ("read_text", "write_text") or (name == "open" and "b" not in "".join(map(str, mode)))
            own = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", None) in ("Image", "os")
            named = {keyword.arg for keyword in node.keywords}
            assert not text or own or "encoding" in named, f"{path}:{node.lineno}"


def test_settings_and_evidence_do_not_change():
    """Each dataclass is frozen: what one part was given, no other part can change."""
    for path in FILES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            made = [ast.unparse(own) for own in getattr(node, "decorator_list", ())]
            assert all("frozen=True" in own for own in made if "dataclass" in own), f"{path}:{node.lineno}"


def test_what_is_installed_are_commands_and_one_package():
    """Each module that can be run is one; the checkout's `python -m export` stays in the checkout."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["setuptools"]["packages"]["find"]["include"] == [f"{PACKAGE.name}*"]
    run = {path.stem for path in FILES.values() if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")}
    assert set(settings["project"]["scripts"]) == {f"cplus1-{name}" for name in run - {"__main__"} | {"score"}}
    for target in settings["project"]["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
