"""The Helm chart renders, by Go's own templates, to manifests that say what the code needs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.test_deploy import DEPLOY, NEEDED

CHART = DEPLOY / "helm"
RENDER = """
import go_template, json, pathlib, sys
print(go_template.render(pathlib.Path(sys.argv[1]), json.load(sys.stdin)).decode())
"""


def defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def manifests(folder: Path, template: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """What a template renders to; in a program of its own, since Go brings its threads."""
    if importlib.util.find_spec("go_template") is None:
        pytest.skip("py-go-template is not installed: it is made for x86_64 alone")
    whole = folder / template
    whole.write_text(
        (CHART / "templates" / "_application.tpl").read_text() + (CHART / "templates" / template).read_text()
    )
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    scope = {
        "Values": values,
        "Chart": {"AppVersion": chart["appVersion"]},
        "Release": {"Name": "shop", "Namespace": "default", "Service": "Helm"},
    }
    done = subprocess.run(
        [sys.executable, "-c", RENDER, str(whole)], input=json.dumps(scope), capture_output=True, text=True, check=True
    )
    assert "<no value>" not in done.stdout
    return list(yaml.safe_load_all(done.stdout))


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(manifest: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(manifest)["env"]}


@pytest.fixture
def worker(tmp_path: Path) -> dict[str, Any]:
    (manifest,) = manifests(tmp_path, "worker.yaml", defaults())
    return manifest


def test_the_worker_may_dump_and_restore_and_no_more(worker: dict[str, Any]) -> None:
    security = container(worker)["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"] and NEEDED <= set(security["capabilities"]["add"])
    assert not {"SYS_ADMIN", "ALL"} & set(security["capabilities"]["add"])
    assert security["seccompProfile"] == {"type": "Unconfined"}


def test_unpacked_images_are_kept_in_memory_and_sealed_ones_where_the_setting_says(worker: dict[str, Any]) -> None:
    volumes = {each["name"]: each for each in worker["spec"]["template"]["spec"]["volumes"]}
    mounts = {each["mountPath"]: each["name"] for each in container(worker)["volumeMounts"]}
    assert environment(worker)["TMPDIR"] == "/run"
    assert volumes[mounts["/run"]]["emptyDir"] == {"medium": "Memory"}
    assert environment(worker)["TRIGGERAPP_CHECKPOINT_STORE"] in mounts


def test_a_claim_is_shared_by_all_workers_and_a_bucket_needs_no_volume(tmp_path: Path) -> None:
    values = defaults()
    values["checkpoint"]["claim"] = "images"
    (shared,) = manifests(tmp_path, "worker.yaml", values)
    store = shared["spec"]["template"]["spec"]["volumes"][1]
    assert store["persistentVolumeClaim"] == {"claimName": "images"}
    values["checkpoint"]["store"] = "s3://bucket/images"
    (remote,) = manifests(tmp_path, "worker.yaml", values)
    assert [each["name"] for each in remote["spec"]["template"]["spec"]["volumes"]] == ["run"]


def test_without_checkpoints_a_worker_has_no_capability_at_all(tmp_path: Path) -> None:
    values = defaults()
    values["checkpoint"]["mode"] = "off"
    (manifest,) = manifests(tmp_path, "worker.yaml", values)
    assert container(manifest)["securityContext"] == {"capabilities": {"drop": ["ALL"]}}


def test_only_workers_have_capabilities(tmp_path: Path) -> None:
    (migrate,) = manifests(tmp_path, "migrate.yaml", defaults())
    service, web = manifests(tmp_path, "web.yaml", defaults())
    for manifest in (migrate, web):
        assert container(manifest)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert service["spec"]["selector"].items() <= web["spec"]["template"]["metadata"]["labels"].items()


def test_migrations_come_before_the_rest(tmp_path: Path) -> None:
    (migrate,) = manifests(tmp_path, "migrate.yaml", defaults())
    assert migrate["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert container(migrate)["command"] == ["python", "manage.py", "migrate"]


def test_a_probe_is_let_in_whatever_names_the_site_has(tmp_path: Path) -> None:
    values = defaults()
    values["web"]["allowedHosts"] = "runs.example.com"
    _, web = manifests(tmp_path, "web.yaml", values)
    hosts = environment(web)["DJANGO_ALLOWED_HOSTS"].split(",")
    for probe in ("livenessProbe", "readinessProbe"):
        (header,) = container(web)[probe]["httpGet"]["httpHeaders"]
        assert header["name"] == "Host" and header["value"] in hosts


def test_a_setting_of_ones_own_reaches_web_and_workers(tmp_path: Path) -> None:
    values = defaults()
    values["environment"] = {"DJANGO_SETTINGS_MODULE": 'shop."settings', "NUMBER": 3}
    _, web = manifests(tmp_path, "web.yaml", values)
    (worker,) = manifests(tmp_path, "worker.yaml", values)
    for manifest in (web, worker):
        assert environment(manifest)["DJANGO_SETTINGS_MODULE"] == 'shop."settings'
        assert environment(manifest)["NUMBER"] == "3"


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("worker", "shutdownSeconds", 10),
        ("worker", "replica", 3),
        ("checkpoint", "mode", "yes"),
        ("checkpoint", "store", "bucket"),
        ("web", "replicas", "two"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_installed(section: str, name: str, value: object) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = defaults()
    jsonschema.validate(values, schema)
    values[section][name] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)
