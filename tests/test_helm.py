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


def rendered(folder: Path, template: str, values: dict[str, Any]) -> str:
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
    command = [sys.executable, "-c", RENDER, str(whole)]
    done = subprocess.run(command, input=json.dumps(scope), capture_output=True, text=True, check=True, timeout=300)
    assert "<no value>" not in done.stdout
    return done.stdout


def manifests(folder: Path, template: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests of a template."""
    return list(yaml.safe_load_all(rendered(folder, template, values)))


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
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(security["capabilities"]["add"]) == NEEDED | {"DAC_OVERRIDE", "SYS_PTRACE"}
    assert security["seccompProfile"] == {"type": "Unconfined"}


def test_a_node_that_lets_processes_be_traced_needs_no_capability_for_it(tmp_path: Path) -> None:
    values = defaults()
    values["checkpoint"]["ptrace"] = False
    (manifest,) = manifests(tmp_path, "worker.yaml", values)
    assert set(container(manifest)["securityContext"]["capabilities"]["add"]) == NEEDED | {"DAC_OVERRIDE"}


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


def test_what_dumps_no_process_has_no_right_at_all(tmp_path: Path) -> None:
    (migrate,) = manifests(tmp_path, "migrate.yaml", defaults())
    service, web = manifests(tmp_path, "web.yaml", defaults())
    values = defaults()
    values["checkpoint"]["mode"] = "off"
    (worker,) = manifests(tmp_path, "worker.yaml", values)
    for manifest in (migrate, web, worker):
        assert container(manifest)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    assert service["spec"]["selector"].items() <= web["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("template", ["migrate.yaml", "web.yaml", "worker.yaml"])
def test_no_pod_is_told_of_the_cluster(tmp_path: Path, template: str) -> None:
    pod = manifests(tmp_path, template, defaults())[-1]["spec"]["template"]["spec"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_the_notes_warn_of_images_that_no_other_pod_can_reach(tmp_path: Path) -> None:
    values = defaults()
    assert "restored only by the pod that made it" in rendered(tmp_path, "NOTES.txt", values)
    values["checkpoint"]["claim"] = "images"
    assert "restored only" not in rendered(tmp_path, "NOTES.txt", values)


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
    values["environment"] = {"DJANGO_SETTINGS_MODULE": 'shop."settings', "NUMBER": "10485760"}
    _, web = manifests(tmp_path, "web.yaml", values)
    (worker,) = manifests(tmp_path, "worker.yaml", values)
    for manifest in (web, worker):
        assert environment(manifest)["DJANGO_SETTINGS_MODULE"] == 'shop."settings'
        assert environment(manifest)["NUMBER"] == "10485760"


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("worker", "shutdownSeconds", 10),
        ("worker", "replica", 3),
        ("checkpoint", "mode", yaml.safe_load("off")),
        ("environment", "NUMBER", 10485760),
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
