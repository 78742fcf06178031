#!/usr/bin/env python3
"""Assembles the images of every platform into one OCI archive, without a builder or an emulator.

    .packaging/images.py ARCHIVE REVISION SBOM_FOLDER PLATFORM=BINARY=BUSYBOX ...

The archive holds two references: the version, an image of the one file, and VERSION-debug, with busybox beside it. Each is an index
of one image a platform (amd64, arm64), its SBOM and its provenance as attestations of BuildKit's form. REVISION is the commit,
SBOM_FOLDER has a PLATFORM.cdx.json for each. The same input gives the same bytes; SOURCE_DATE_EPOCH is the time of everything.

    skopeo copy --all oci-archive:ARCHIVE:VERSION docker://REGISTRY/grace-init:VERSION
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
STATEMENT = "application/vnd.in-toto+json"


def first(pattern, path):
    return re.search(pattern, (ROOT / path).read_text(), re.MULTILINE).group(1)


VERSION = first(r'^version = "(.*)"', "Cargo.toml")
REPOSITORY = first(r"^REPOSITORY=(.*)", ".packaging/publisher")
# The same as an image of docker/Dockerfile has, and where it comes from.
LABELS = dict(re.findall(r'(org\.opencontainers\.image\.\w+)="([^"]*)"', (ROOT / "docker/Dockerfile").read_text()))


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def tar(entries):
    """A tar archive of (name, mode, content) and (name, link target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, *rest in entries:
            entry = tarfile.TarInfo(name)
            entry.mtime = EPOCH
            content = b""
            match rest:
                case [str(target)]:
                    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
                case [mode, None]:
                    entry.type, entry.mode = tarfile.DIRTYPE, mode
                case [mode, content]:
                    entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


class Layout:
    def __init__(self):
        self.blobs = {}

    def add(self, media_type, content, **more):
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    def layer(self, entries):
        content = tar(entries)
        descriptor = self.add(LAYER, gzip.compress(content, mtime=0))
        return descriptor, "sha256:" + hashlib.sha256(content).hexdigest()

    def image(self, architecture, layers, labels, path):
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": {"Entrypoint": ["/grace-init"], "Cmd": ["--version"], "Env": [f"PATH={path}"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
            "history": [{"created": CREATED, "created_by": ".packaging/images.py"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": self.add(CONFIG, canonical(config)),
            "layers": [descriptor for descriptor, _ in layers],
            "annotations": labels,
        }
        return self.add(IMAGE, canonical(manifest), platform={"architecture": architecture, "os": "linux"})

    def attestations(self, image, revision, sbom):
        """What BuildKit adds for an image: https://docs.docker.com/build/metadata/attestations/attestation-storage/"""
        architecture = image["platform"]["architecture"]
        subject = {
            "name": f"pkg:docker/grace-init@{VERSION}?platform=linux%2F{architecture}",
            "digest": {"sha256": image["digest"].removeprefix("sha256:")},
        }
        provenance = {
            "buildDefinition": {
                "buildType": f"{REPOSITORY}#release",
                "externalParameters": {"command": f".ci/release {VERSION}"},
                "resolvedDependencies": [{"uri": f"git+{REPOSITORY}", "digest": {"gitCommit": revision}}],
            },
            "runDetails": {"builder": {"id": REPOSITORY}, "metadata": {"startedOn": CREATED}},
        }
        predicates = {"https://cyclonedx.org/bom": sbom, "https://slsa.dev/provenance/v1": provenance}
        layers = []
        for kind, predicate in predicates.items():
            statement = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": kind, "subject": [subject], "predicate": predicate}
            layers.append(self.add(STATEMENT, canonical(statement), annotations={"in-toto.io/predicate-type": kind}))
        config = {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": self.add(CONFIG, canonical(config)), "layers": layers}
        annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
        platform = {"architecture": "unknown", "os": "unknown"}
        return self.add(IMAGE, canonical(manifest), platform=platform, annotations=annotations)

    def index(self, name, images, labels):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": images, "annotations": labels}
        return self.add(INDEX, canonical(index), annotations={"org.opencontainers.image.ref.name": name})

    def write(self, path, references):
        files = [("oci-layout", 0o644, canonical({"imageLayoutVersion": "1.0.0"}))]
        files.append(("index.json", 0o644, canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": references})))
        files += [("blobs", 0o755, None), ("blobs/sha256", 0o755, None)]
        files += [(f"blobs/sha256/{digest}", 0o644, self.blobs[digest]) for digest in sorted(self.blobs)]
        pathlib.Path(path).write_bytes(tar(files))


def main(archive, revision, sboms, *platforms):
    labels = LABELS | {
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.source": REPOSITORY,
        "org.opencontainers.image.version": VERSION,
    }
    debug_labels = labels | {
        "org.opencontainers.image.description": labels["org.opencontainers.image.description"] + ", with busybox",
        "org.opencontainers.image.licenses": "MIT AND GPL-2.0-only",
    }
    layout = Layout()
    plain, debug, applets = [], [], None
    for platform in platforms:
        architecture, binary, busybox = platform.split("=")
        # The first file is one for this machine; the other is of the same version.
        applets = applets or subprocess.run([busybox, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        sbom = json.loads((pathlib.Path(sboms) / f"{architecture}.cdx.json").read_text())
        own = layout.layer([("grace-init", 0o555, pathlib.Path(binary).read_bytes())])
        files = [("busybox", 0o755, None), ("busybox/busybox", 0o755, pathlib.Path(busybox).read_bytes())]
        files += [(f"busybox/{applet}", "busybox") for applet in sorted(set(applets)) if applet != "busybox"]
        tools = layout.layer(files)
        for images, layers, its_labels, path in [(plain, [own], labels, "/"), (debug, [own, tools], debug_labels, "/:/busybox")]:
            image = layout.image(architecture, layers, its_labels, path)
            images += [image, layout.attestations(image, revision, sbom)]
    # As BuildKit has it, the platforms come first.
    order = lambda images: sorted(images, key=lambda image: image["platform"]["os"] == "unknown")
    layout.write(
        archive,
        [layout.index(VERSION, order(plain), labels), layout.index(f"{VERSION}-debug", order(debug), debug_labels)],
    )


if len(sys.argv) < 5:
    sys.exit(__doc__)
main(*sys.argv[1:])
