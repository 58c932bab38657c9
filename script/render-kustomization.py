#!/usr/bin/env python3
"""Renders a kustomization as `kubectl kustomize` does, where there is no kubectl.

    script/render-kustomization.py FOLDER               prints its objects, one YAML document each
    script/render-kustomization.py FOLDER --like FILE   compares them with those in FILE, and prints what differs

It knows resources and JSON patches, which is all that our kustomizations use. Anything else is an error, and so is a YAML
file in the folder that the kustomization does not use: it would never be applied. Needs PyYAML and jsonpatch.
"""

import sys
from pathlib import Path

import jsonpatch
import yaml

HEAD = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def name_of(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def only(mapping, known, where):
    unknown = sorted(set(mapping) - set(known))
    if unknown:
        sys.exit(f"{where}: no rendering is known for {', '.join(unknown)}")


def patched(objects, patch, folder):
    """Applies one entry of `patches` to the objects that it targets, of which there must be some."""
    where = folder / "kustomization.yaml"
    only(patch, {"path", "target"}, where)
    only(patch["target"], {"kind", "name"}, where)
    operations = jsonpatch.JsonPatch(yaml.safe_load((folder / patch["path"]).read_text()))
    wanted = name_of({"kind": patch["target"]["kind"], "metadata": patch["target"]})
    if wanted not in map(name_of, objects):
        sys.exit(f"{where}: {patch['path']} is for {wanted}, which is not among the resources")
    return [operations.apply(item) if name_of(item) == wanted else item for item in objects]


def render(folder):
    where = folder / "kustomization.yaml"
    (kustomization,) = documents(where)
    only(kustomization, HEAD.keys() | {"resources", "patches"}, where)
    if {key: kustomization.get(key) for key in HEAD} != HEAD:
        sys.exit(f"{where}: this is no {HEAD['kind']} of {HEAD['apiVersion']}")
    objects, used = [], {where.name}
    for resource in kustomization["resources"]:
        path = folder / resource
        if path.is_dir():
            objects += render(path)
        else:
            objects += documents(path)
            used.add(resource)
    for patch in kustomization.get("patches", []):
        objects = patched(objects, patch, folder)
        used.add(patch["path"])
    unused = sorted({path.name for path in folder.glob("*.yaml")} - used)
    if unused:
        sys.exit(f"{where}: {', '.join(unused)} is not used")
    names = [name_of(item) for item in objects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        sys.exit(f"{where}: {', '.join(twice)} is there twice")
    return objects


def main():
    folder = Path(sys.argv[1])
    objects = render(folder)
    if sys.argv[2:3] != ["--like"]:
        yaml.safe_dump_all(objects, sys.stdout, sort_keys=False, allow_unicode=True)
        return
    ours = {name_of(item): item for item in objects}
    theirs = {name_of(item): item for item in documents(Path(sys.argv[3]))}
    differ = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differ:
        sys.exit(f"{folder}: {', '.join(differ)} is rendered differently")


if __name__ == "__main__":
    main()
