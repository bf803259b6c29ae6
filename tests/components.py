"""What is linked into the two programs, as Cargo resolves it for a release on this machine.

    components.py licences                   prints the licences of all packages, with their texts; equal texts appear once
    components.py list PROGRAM FOLDER FILE   writes the list (SBOM) that `cargo cyclonedx` has made in FOLDER to FILE, without what is
                                             for tests alone, and without the path of FOLDER
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

PROGRAMS = ["punctual-agent", "punctual-config-service"]
NAMES = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.I)


def linked(edges, program=None):
    """Names and versions of what is linked into both programs, or into one of them. A release builds them together, so each has the
    features that the other one asks for."""
    packages = [f"--package={each}" for each in PROGRAMS]
    tree = ["cargo", "tree", "--locked", f"--edges={edges}", "--prefix=depth", "--format= {p}", *packages]
    above, needs = [], collections.defaultdict(set)
    for line in filter(None, subprocess.check_output(tree, text=True).splitlines()):
        depth, name, version = line.split()[:3]
        above[int(depth) :] = [(name, version.removeprefix("v"))]
        # What was shown with its needs before is shown without them.
        needs[above[-2] if int(depth) else None].add(above[-1])
    found, rest = set(), [package for package in needs[None] if program in (None, package[0])]
    assert rest, f"cargo tree does not show {program or PROGRAMS}"
    while rest:
        package = rest.pop()
        if package not in found:
            found.add(package)
            rest += needs[package]
    return found


def licences():
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--locked", "--format-version=1"]))
    wanted, texts = linked("normal"), collections.defaultdict(set)
    for package in metadata["packages"]:
        if package["source"] is None or (package["name"], package["version"]) not in wanted:
            continue
        who = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        folder = pathlib.Path(package["manifest_path"]).parent
        files = [file for file in folder.iterdir() if NAMES.match(file.name) and file.is_file()]
        for file in files:
            texts[file.read_text(errors="replace").strip()].add(who)
        if not files:
            texts["The package has no file with the text of its licence."].add(who)
    for text, who in sorted(texts.items(), key=lambda item: (sorted(item[1]), item[0])):
        print("\n".join(sorted(who)), text, "-" * 80, sep="\n\n")


def write_list(program, folder, file):
    made = pathlib.Path(folder, "bins", program.removeprefix("punctual-"), f"{program}_bin.cdx.json").read_text()
    bom, wanted = json.loads(made.replace(folder, "/punctual")), linked("normal,build", program)
    bom["components"] = [part for part in bom["components"] if (part["name"], part["version"]) in wanted]
    kept = {part["bom-ref"] for part in [bom["metadata"]["component"], *bom["components"]]}
    bom["dependencies"] = [
        {**one, "dependsOn": [on for on in one.get("dependsOn", []) if on in kept]} for one in bom["dependencies"] if one["ref"] in kept
    ]
    pathlib.Path(file).write_text(json.dumps(bom, indent=1) + "\n")


if sys.argv[1] == "licences":
    licences()
else:
    write_list(*sys.argv[2:])
