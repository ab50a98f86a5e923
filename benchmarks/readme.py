"""Put the tables of docs/results into README and docs, between comments that name them: `python benchmarks/readme.py`.

A block reads `<!-- results: NAME.md -->`, the table, `<!-- end -->`. A test fails while text and results differ.
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = ("comparison", "detection", "production", "recipes", "segmentation", "speed", "wrap")
PAGES = (ROOT / "README.md", *(ROOT / f"docs/{name}.md" for name in GUIDES))
BLOCK = re.compile(r"<!-- results: (?P<name>[\w.-]+\.md) -->\n.*?<!-- end -->", re.DOTALL)


def updated(text, folder):
    """The text with the table of each block replaced by the file that it names."""

    def block(match):
        table = (folder / match["name"]).read_text(encoding="utf-8").strip()
        return f"<!-- results: {match['name']} -->\n{table}\n<!-- end -->"

    return BLOCK.sub(block, text)


def main():
    for path in PAGES:
        path.write_text(updated(path.read_text(encoding="utf-8"), ROOT / "docs/results"), encoding="utf-8")


if __name__ == "__main__":
    main()
