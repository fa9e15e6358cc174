"""What the site takes from outside of docs/: pictures, results and examples that pages link to."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#]+)[^)]*\)")


def on_files(files: Files, config) -> Files:
    """Every file outside that a page links to becomes one of the site."""
    linked = {match[3] for page in list(files.documentation_pages()) for match in OUTSIDE.finditer(page.content_string)}
    for path in sorted(linked):
        if _is_content(path):
            files.append(File.generated(config, posixpath.join("files", path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page, config, files: Files) -> str:
    """Links to such files lead to their place in the site; those to folders become text."""

    def link(match: re.Match) -> str:
        image, text, path = match.groups()
        if path == "README.md":
            return f"{image}[{text}](index.md)"
        return f"{image}[{text}](files/{path})" if _is_content(path) else text

    return OUTSIDE.sub(link, markdown)


def _is_content(path: str) -> bool:
    """Pages of the repository belong to the repository alone."""
    return (ROOT / path).is_file() and not path.endswith(".md")
