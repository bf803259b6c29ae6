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


def linked(edges, programs=PROGRAMS):
    """Names and versions."""
    packages = [f"--package={program}" for program in programs]
    tree = ["cargo", "tree", "--locked", f"--edges={edges}", "--prefix=none", "--format={p}", *packages]
    lines = subprocess.check_output(tree, text=True).splitlines()
    return {tuple(line.replace(" v", " ").split()[:2]) for line in lines if line}


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
    bom, wanted = json.loads(made.replace(folder, "/punctual")), linked("normal,build", [program])
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
