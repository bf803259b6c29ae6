"""Renders the Helm chart and checks the manifests; see tests/kubernetes.sh."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/operations/deployment"
CHART = FOLDER / "helm/punctual"
PLAIN = FOLDER / "kubernetes/punctual.yaml"
HEAD = """\
# What the Helm chart beside it makes, for those who do without Helm. It needs a Secret with the keys BATCH_STORE_URL,
# CONFIG_STORE_URL, BATCH_API_KEY and CONFIG_SERVICE_API_KEY. Both URLs are of PostgreSQL: a SQLite file would be another one in
# each pod, and each agent would run all users. Written by `tests/kubernetes.sh --write`.
"""
# The oldest that the chart allows, and the newest.
VERSIONS = ["1.30", "1.37"]
STORES = {name: "postgres://punctual:secret@db.example/punctual" for name in ("BATCH_STORE_URL", "CONFIG_STORE_URL")}
GIVEN = {**STORES, "BATCH_API_KEY": "0123456789abcdef", "CONFIG_SERVICE_API_KEY": "fedcba9876543210"}
SOME = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]
VIEW = {"name": "prometheus-punctual", "key": "token"}
# What a cluster's owner may set, by what it shows.
CASES = {
    "with secrets of its own": {"secrets": GIVEN},
    "with all there is": {
        "secrets": {"existing": "keys"},
        "imagePullSecrets": [{"name": "registry"}],
        "agent": {"env": [{"name": "BATCH_DEFAULT_TIMEZONE", "value": "Europe/Berlin"}]},
        "config": {"env": [{"name": "CONFIG_SITE_NAME", "value": "Shop"}]},
        "networkPolicy": {"agentFrom": SOME, "configFrom": SOME},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "credentials": VIEW},
    },
    "with a Config Database elsewhere": {
        "secrets": {**GIVEN, "CONFIG_STORE_URL": ""},
        "config": {"enabled": False, "url": "https://config.example"},
        "networkPolicy": {"enabled": False},
    },
}
PROGRAMS = {"agent": ["punctual-agent", "reference", "settings"], "config": ["punctual-config-service", "--help"]}


def helm(*arguments, values=None, accepted=True):
    """What helm prints; with `accepted=False`, why it refuses."""
    command = [ROOT / "target/kubernetes/helm", *arguments]
    if values is not None:
        command += ["--values", "-"]
    ended = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    assert (ended.returncode == 0) == accepted, f"helm {arguments}: {ended.stdout}{ended.stderr}"
    return ended.stdout if accepted else ended.stderr


def render(values, release="punctual", **options):
    return helm("template", release, CHART, values=values, **options)


def validate(what, manifest):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{what}: {manifest['kind']} in Kubernetes {version}: {error}") from error


def check_settings(containers):
    for container in containers:
        program, *how = PROGRAMS[container["name"]]
        known = subprocess.check_output([ROOT / "target/debug" / program, *how], text=True)
        for variable in container["env"]:
            assert re.search(rf"\b{variable['name']}\b", known), f"{program} has no setting {variable['name']}"


def check_jobs(volume, jobs):
    """The agent accepts the files as the volume shows them."""
    with tempfile.TemporaryDirectory() as folder:
        for item in volume["configMap"]["items"]:
            path = pathlib.Path(folder, item["path"])
            path.parent.mkdir(exist_ok=True)
            path.write_text(jobs["data"][item["key"]])
        paths = {"BATCH_CONFIG_PATH": f"{folder}/batch/batch_config.json", "BATCH_PURPOSES_PATH": f"{folder}/batch/purposes.json"}
        subprocess.run([ROOT / "target/debug/punctual-agent", "check"], env={**os.environ, **paths}, check=True, stdout=subprocess.DEVNULL)


def check(what, rendered):
    manifests = [manifest for manifest in yaml.safe_load_all(rendered) if manifest]
    by_name = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    assert len(by_name) == len(manifests), f"{what}: two have the same name"
    for manifest in manifests:
        if manifest["kind"] != "ServiceMonitor":
            validate(what, manifest)
    for (kind, name), manifest in by_name.items():
        if kind in ("Deployment", "StatefulSet"):
            pod = manifest["spec"]["template"]["spec"]
            check_settings(pod["containers"])
            if name.endswith("-agent"):
                check_jobs(pod["volumes"][0], by_name["ConfigMap", "punctual-jobs"])
            # What finds the pods finds these.
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert by_name["Service", name]["spec"]["selector"].items() <= labels.items(), name
            assert by_name["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"].items() <= labels.items(), name
    return manifests


chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
assert chart["version"] == chart["appVersion"] == version, f"Chart.yaml is of {chart['version']}, the workspace of {version}"
plain = HEAD + re.sub(r"^ *app.kubernetes.io/managed-by: .*\n", "", render({"secrets": {"existing": "punctual"}}), flags=re.M)
if sys.argv[1:] == ["--write"]:
    PLAIN.write_text(plain)
assert PLAIN.read_text() == plain, f"{PLAIN} differs from the chart; run tests/kubernetes.sh --write"

helm("lint", "--strict", CHART, values=CASES["with secrets of its own"])
for what, values in CASES.items():
    count = len(check(what, render(values)))
    print(f"The chart {what}: {count} manifests are valid in Kubernetes {' and '.join(VERSIONS)}")
check("plain", plain)
# What is missing is named.
for name in GIVEN:
    assert f"secrets.{name}" in render({"secrets": {**GIVEN, name: ""}}, accepted=False)
# Pods share their stores, or there are none; an error does not show the URL, for it has a password.
for name in STORES:
    for url in ("sqlite:///srv/punctual/var/punctual.db", "mysql://punctual:secret@db.example/punctual"):
        refused = render({"secrets": {**GIVEN, name: url}}, accepted=False)
        assert name in refused and url not in refused, refused
    render({"secrets": {**GIVEN, name: GIVEN[name].replace("postgres:", "postgresql:")}})
for part, name in zip(("agent", "config"), STORES):
    env = [{"name": name, "value": "sqlite:///srv/punctual/var/punctual.db"}]
    assert name in render({"secrets": GIVEN, part: {"env": env}}, accepted=False)
assert "config.url" in render({"secrets": GIVEN, "config": {"enabled": False}}, accepted=False)
# Prometheus has a key that may only look, if it is given one.
for given, used in ((VIEW, VIEW), ({}, {"name": "punctual", "key": "BATCH_API_KEY"})):
    rendered = yaml.safe_load_all(render({"secrets": GIVEN, "serviceMonitor": {"enabled": True, "credentials": given}}))
    (monitor,) = [manifest for manifest in rendered if manifest and manifest["kind"] == "ServiceMonitor"]
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"] == used, monitor
# A tag may look like a number.
assert '"registry.example/punctual:7"' in render({"secrets": GIVEN, "image": {"repository": "registry.example/punctual", "tag": 7}})
# The longest name that Helm allows. A StatefulSet's pods have its name in a label of 63 characters at most, with `-` and a hash of
# ten.
for manifest in filter(None, yaml.safe_load_all(render({"secrets": GIVEN}, release="a" * 53))):
    name = manifest["metadata"]["name"]
    assert len(name) <= (52 if manifest["kind"] == "StatefulSet" else 63), f"{manifest['kind']} {name}"
# The schemas refuse a field that is not there.
wrong = yaml.safe_load(plain.split("---\n")[1])
wrong["spec"]["unknown"] = 1
try:
    validate("with an unknown field", wrong)
except AssertionError:
    pass
else:
    raise AssertionError("The schemas of Kubernetes accept an unknown field")
