#!/usr/bin/env python3
"""What the released file is made of, from Cargo's own resolution.

    .packaging/components.py sbom TARGET BINARY > grace-init.cdx.json     a CycloneDX 1.5 SBOM
    .packaging/components.py notices TARGET [FEATURES] > NOTICES          the licenses of what is linked into the file

SOURCE_DATE_EPOCH is the SBOM's time. CARGO names another cargo.
"""

import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What the compiler links besides the crates.
LINKED = [
    ("The Rust standard library", "MIT OR Apache-2.0", "Copyright (c) The Rust Project Contributors"),
    ("musl", "MIT", "Copyright (c) 2005-2020 Rich Felker, et al."),
    ("LLVM libunwind", "Apache-2.0 WITH LLVM-exception", "Copyright (c) The LLVM Project contributors"),
]


def cargo(*words):
    command = [os.environ.get("CARGO", "cargo"), *words, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked(target, features=""):
    """The package itself, and the crates that reach its file, with what each depends on."""
    known = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target, "--features", features))
    packages = {package["id"]: package for package in known["packages"]}
    # `metadata` joins the features that tests want; only `tree` leaves those out.
    tree = cargo("tree", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}", "--features", features)
    in_the_file = {tuple(line.split()[:2]) for line in tree.splitlines()}
    is_linked = lambda identity: (packages[identity]["name"], "v" + packages[identity]["version"]) in in_the_file
    found = {node["id"]: sorted(filter(is_linked, node["dependencies"])) for node in known["resolve"]["nodes"] if is_linked(node["id"])}
    return packages, known["resolve"]["root"], found


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def sbom(target, binary):
    packages, ours, found = linked(target)
    own = packages[ours]
    digest = hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()
    checksums = {}
    for block in (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]:
        fields = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        checksums[fields["name"].strip('"'), fields["version"].strip('"')] = fields.get("checksum", "").strip('"')

    def component(identity, kind):
        package = packages[identity]
        checksum = digest if identity == ours else checksums[package["name"], package["version"]]
        return {
            "type": kind,
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package),
            "licenses": [{"expression": package["license"].replace("/", " OR ")}],
            "hashes": [{"alg": "SHA-256", "content": checksum}],
        }

    others = sorted((identity for identity in found if identity != ours), key=lambda one: reference(packages[one]))
    when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(ours, "application"),
            "properties": [{"name": "grace-init:target", "value": target}],
        },
        "components": [component(identity, "library") for identity in others],
        "dependencies": [
            {"ref": reference(packages[identity]), "dependsOn": sorted(reference(packages[part]) for part in found[identity])}
            for identity in [ours, *others]
        ],
    }


def notices(target, features=""):
    packages, ours, found = linked(target, features)
    parts = ["The file holds the following works of others, under these licenses.\n"]
    for name, license, holder in LINKED:
        parts.append(f"{name}: {license}\n{holder}\n")
    texts = {}
    for identity in sorted(found, key=lambda one: packages[one]["name"]):
        if identity == ours:
            continue
        package = packages[identity]
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(file for file in folder.iterdir() if file.name.upper().startswith(("LICENSE", "COPYING", "NOTICE")) and file.is_file())
        # Where the MIT license can be chosen it is.
        chosen = [file for file in files if "MIT" in file.name.upper()] or [file for file in files if "APACHE" not in file.name.upper()] or files
        for file in chosen:
            texts.setdefault(file.read_text().strip().replace("\r", ""), []).append(f"{package['name']} {package['version']}: {package['license']}")
        if not chosen:
            parts.append(f"{package['name']} {package['version']}: {package['license']}\n")
    for text, names in texts.items():
        parts.append("\n".join(names) + "\n\n" + text + "\n")
    return ("\n" + "-" * 80 + "\n\n").join(parts)


def main(words):
    match words:
        case ["sbom", target, binary]:
            print(json.dumps(sbom(target, binary), indent=2))
        case ["notices", target, *features] if len(features) < 2:
            print(notices(target, *features), end="")
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
