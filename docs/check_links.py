"""Check every link of the built site, without network.

    python docs/check_links.py build/site

Links to pages, files and anchors within it must lead somewhere. Pages must load nothing from
elsewhere; links to other sites are counted, and not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loads = {"", "top"}, set[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links |= {given[name] for name in ("href",) if name in given}
        elif tag != "link" or given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads |= {given[name] for name in ("href", "src") if name in given}


def faults(site: Path) -> tuple[list[str], int]:
    """Return what is wrong with the links of a site, and how many lead out of it."""
    files = sorted(set(site.rglob("*.html")) - set(site.glob("_static/**/*")))
    pages = {path.resolve(): Page(path) for path in files}
    found, n_outside = [], 0
    for path, page in pages.items():
        for link in sorted(page.links | page.loads):
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            here = f"{path.relative_to(site.resolve())}: {link}"
            if parts.scheme or parts.netloc:
                n_outside += 1
                if link in page.loads:
                    found.append(f"{here} is loaded from elsewhere")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{here} leads nowhere")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{here} has no such anchor")
    return found, n_outside


if __name__ == "__main__":
    wrong, n_outside = faults(Path(sys.argv[1]))
    print(*wrong, f"{len(wrong)} faults; {n_outside} links lead out, not followed", sep="\n")
    sys.exit(bool(wrong))
