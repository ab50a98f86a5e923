"""The README tells the truth: its tables are those that the benchmarks wrote, its files and configs exist."""

import importlib.util
import pathlib
import re

from cplus1_keras import configs

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_what_the_benchmarks_wrote():
    specification = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    readme = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(readme)
    assert len(readme.BLOCK.findall(TEXT)) >= 3
    for path in readme.PAGES:
        text = path.read_text(encoding="utf-8")
        assert readme.updated(text, ROOT / "docs" / "results") == text, f"{path}: run python benchmarks/readme.py"


def test_links_lead_to_files():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "export/README.md"):
        links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")) if "://" not in link]
        assert [link for link in links if not (page.parent / link).exists()] == [], page


def test_commands_name_configs_and_benchmarks_that_exist():
    named = re.findall(r"--config (\w+)\b(?!\.)", TEXT)
    assert named
    assert set(named) <= set(configs.SHIPPED)
    scripts = re.findall(r"python (benchmarks/\w+\.py)", TEXT)
    assert scripts
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
