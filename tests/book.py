"""Makes a site of the documents with mdBook, below target/book, and checks that every link of it leads somewhere.

The documents are copied as they lie in the repository, so that their links stay what they are. A link to a folder becomes its name:
a site lists no folders. Decisions are chapters without being listed one by one.
"""

import html.parser
import os
import posixpath
import re
import shutil
import subprocess
import sys
import urllib.parse

BOOK = "target/book"
SOURCES = os.path.join(BOOK, "src")
SITE = os.path.join(BOOK, "site")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
# A README is the index of its folder, as it is on a site.
README = re.compile(r"README\.md(?=$|#)")


def is_elsewhere(target):
    return bool(urllib.parse.urlsplit(target).scheme) or target.startswith("#")


def for_the_site(text, folder):
    """A document's text with links as the site has them, and the files beside documents that it links to."""
    files = set()
    fenced = re.split(r"(^ *```.*?^ *```$)", text, flags=re.S | re.M)

    def link(match):
        name, target = match.groups()
        if is_elsewhere(target):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target.split("#")[0]))
        if os.path.isdir(path):
            return name
        if not path.endswith(".md"):
            files.add(path)
        return f"[{name}]({README.sub('index.md', target)})"

    parts = [part if number % 2 else LINK.sub(link, part) for number, part in enumerate(fenced)]
    return "".join(parts), files


def copy(documents):
    for document in documents:
        folder = posixpath.dirname(document)
        with open(document, encoding="utf-8") as file:
            text, files = for_the_site(file.read(), folder)
        to = os.path.join(SOURCES, README.sub("index.md", document))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with open(to, "w", encoding="utf-8") as file:
            file.write(text)
        for path in files:
            os.makedirs(os.path.dirname(os.path.join(SOURCES, path)), exist_ok=True)
            shutil.copyfile(path, os.path.join(SOURCES, path))
    for folder in ["docs/pictures"]:
        shutil.copytree(folder, os.path.join(SOURCES, folder), dirs_exist_ok=True)


def summary():
    """The list of chapters from the root of the repository, with a chapter for each decision, and the documents that it names."""
    with open("docs/SUMMARY.md", encoding="utf-8") as file:
        lines = file.read().splitlines()
    decisions = sorted(name for name in os.listdir("docs/adr") if name[0].isdigit())
    documents, out = [], []
    for line in lines:
        match = LINK.search(line)
        if not match:
            out.append(line)
            continue
        path = posixpath.normpath(posixpath.join("docs", match[2]))
        documents.append(path)
        out.append(line.replace(match[2], README.sub("index.md", path)))
        if path == "docs/adr/README.md":
            for name in decisions:
                path = f"docs/adr/{name}"
                with open(path, encoding="utf-8") as file:
                    title = file.readline().lstrip("# ").strip()
                documents.append(path)
                out.append(f"  - [{title}]({path})")
    listed = set(documents)
    for folder, _, names in os.walk("docs"):
        for name in names:
            path = posixpath.join(folder, name)
            if name.endswith(".md") and path not in listed and path != "docs/SUMMARY.md":
                sys.exit(f"{path} is not in docs/SUMMARY.md; add it where a reader looks for it")
    return documents, "\n".join(out) + "\n"


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links = set(), []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        for name in ("href", "src"):
            if name in attributes and tag in ("a", "img", "script", "link"):
                self.links.append(attributes[name])


def broken_links():
    pages = {}
    for folder, _, names in os.walk(SITE):
        for name in names:
            # The print page holds all others, with links of their own form; search results are made by a script.
            if name.endswith(".html") and name not in ("print.html", "toc.html", "404.html"):
                path = os.path.join(folder, name)
                pages[path] = Page()
                with open(path, encoding="utf-8") as file:
                    pages[path].feed(file.read())
    for path, page in sorted(pages.items()):
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            to = path
            if url.path:
                to = os.path.normpath(os.path.join(os.path.dirname(path), urllib.parse.unquote(url.path)))
            anchor = urllib.parse.unquote(url.fragment)
            if not os.path.isfile(to) or (anchor and to in pages and anchor not in pages[to].ids):
                yield f"{os.path.relpath(path, SITE)}: {link} leads nowhere"


def main():
    shutil.rmtree(BOOK, ignore_errors=True)
    documents, chapters = summary()
    copy(documents)
    with open(os.path.join(SOURCES, "SUMMARY.md"), "w", encoding="utf-8") as file:
        file.write(chapters)
    shutil.copyfile("docs/book.toml", os.path.join(BOOK, "book.toml"))
    subprocess.run(["target/tools/bin/mdbook", "build", BOOK], check=True)
    broken = list(broken_links())
    if broken:
        sys.exit("\n".join(broken))
    print(f"{len(documents)} chapters in {SITE}/index.html")


if __name__ == "__main__":
    main()
