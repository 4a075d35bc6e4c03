"""cistern plan --emit: what is emitted is read back with the parsers and validators of those who will read it.

The values of the reference configuration (four ranks, 40 GiB) are written down here as they stand in RTP-LLM's
documentation. A validator that is not installed is skipped, saying so.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
CISTERN = os.environ.get("CISTERN", str(TOP / "build" / "cistern"))
GIB = 1 << 30
MODEL = ["--layers", "32", "--kv-heads", "8", "--head-dim", "128", "--hours", "1"]
REFERENCE_MOUNTS = [{"mountPath": "/dev/shm", "name": "shm-vol"},
                    {"mountPath": "/3fs/stage/", "name": "shared-mountpoint", "mountPropagation": "HostToContainer"}]
REFERENCE_VOLUMES = [{"name": "shm-vol", "emptyDir": {"medium": "Memory", "sizeLimit": "40Gi"}},
                     {"name": "shared-mountpoint", "emptyDir": {}}]


def emit(kind, *args):
    r = subprocess.run([CISTERN, "plan", *MODEL, "--emit", kind, *map(str, args)], text=True, timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 0, r.stderr
    return r.stdout


def gib(text):
    assert text.endswith("Gi")
    return int(text[:-2])


def test_rtp_is_the_reference_for_four_ranks():
    o = json.loads(emit("rtp", "--tp", 4))
    texts = dict(line.split("=", 1) for line in o["container_configs"])
    assert json.loads(texts["JSON_VOLUME_MOUNTS"]) == REFERENCE_MOUNTS
    assert json.loads(texts["JSON_VOLUMES"]) == REFERENCE_VOLUMES
    assert o["meta_tag_list"] == [{"key": "alibabacloud.com/fuse-service", "value": "rtp-3fs-h20"}]
    assert o["labels"] == [{"name": "storage.3fs.release=rtp", "type": "PROHIBIT_TEXT", "amount": 0}]
    assert o["env"] == {"REUSE_CACHE": "1", "ENABLE_3FS": "1"}
    assert o["args"] == "--reuse_cache True --enable_3fs True"
    assert gib(o["memory"]) >= 40


@pytest.mark.parametrize("tp, shm", [(1, 10), (2, 20), (4, 40), (8, 80)])
def test_every_form_has_the_same_shm(tp, shm):
    rtp = json.loads(emit("rtp", "--tp", tp))
    assert f'"sizeLimit":"{shm}Gi"' in rtp["container_configs"][1]
    pod = yaml.safe_load(emit("k8s", "--tp", tp))["spec"]["template"]["spec"]
    helm = yaml.safe_load(emit("helm", "--tp", tp))
    for place in (pod, helm):
        volume = next(v for v in place["volumes"] if v["name"] == "shm-vol")
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{shm}Gi"}
    for resources in (pod["containers"][0]["resources"], helm["resources"]):
        assert resources["limits"]["nvidia.com/gpu"] == tp
        assert gib(resources["limits"]["memory"]) >= shm and gib(resources["requests"]["memory"]) >= shm
    docker = yaml.safe_load(emit("docker", "--tp", tp))["services"]["engine"]
    device, = docker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": tp, "capabilities": ["gpu"]}
    assert docker["shm_size"] == f"{shm * 1024}m" and int(docker["mem_limit"][:-1]) >= shm * 1024
    assert f"size={shm * 1024}M" in emit("systemd", "--tp", tp)


def test_staging_that_is_not_the_default_reaches_the_engine():
    """Else the engine takes 4 GiB each from a /dev/shm that was sized for something else."""
    words = ["--tp", 2, "--read-staging", "1G", "--write-staging", "4G"]
    rtp = json.loads(emit("rtp", *words))["env"]
    container = yaml.safe_load(emit("k8s", *words))["spec"]["template"]["spec"]["containers"][0]
    k8s = {e["name"]: e["value"] for e in container["env"] if "value" in e}
    helm = yaml.safe_load(emit("helm", *words))["env"]
    docker = yaml.safe_load(emit("docker", *words))["services"]["engine"]["environment"]
    systemd = dict(re.findall(r"(?<=[ =])([A-Z0-9_]+)=(\S+)", emit("systemd", *words)))
    for env in (rtp, k8s, helm, docker, systemd):
        assert env["THREEFS_READ_IOV_SIZE"] == str(GIB) and "THREEFS_WRITE_IOV_SIZE" not in env
        r = subprocess.run([CISTERN, "doctor", "--only", "switches,shm-size", "--tp", "2", "--json"],
                           env=os.environ | env, stdout=subprocess.PIPE, text=True, timeout=60)
        switches, shm = json.loads(r.stdout)["checks"]
        assert switches["state"] == "pass" and "2 ranks need 10 GiB" in shm["cause"]
    assert k8s == docker == helm == systemd


def test_kubernetes_has_what_the_reference_asks_for():
    o = yaml.safe_load(emit("k8s", "--tp", 4, "--name", "My_Engine"))
    pod = o["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert o["kind"] == "StatefulSet" and o["metadata"]["name"] == "my-engine"
    assert pod["metadata"]["labels"]["alibabacloud.com/fuse-service"] == "rtp-3fs-h20"
    assert {"name": "shared-mountpoint", "mountPath": "/3fs/stage/",
            "mountPropagation": "HostToContainer"} in container["volumeMounts"]
    rule = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert rule["labelSelector"]["matchLabels"] == {"storage.3fs.release": "rtp"}
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    env = {e["name"]: e.get("value") or e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    assert env["CISTERN_HOST"] == "spec.nodeName"  # a Pod's own name fits no pattern of the clusters file
    assert env["REUSE_CACHE"] == env["ENABLE_3FS"] == "1"
    assert container["startupProbe"]["exec"]["command"][:2] == ["cistern", "doctor"]
    # Storage that goes away later must not take the engine with it.
    assert "livenessProbe" not in container and "readinessProbe" not in container


def probe(tmp_path, tp=1, **env):
    """Runs the probe, as it is emitted, on a machine of files: its exit status and what it found."""
    pod = yaml.safe_load(emit("k8s", "--tp", tp))["spec"]["template"]["spec"]
    (tmp_path / "dev" / "shm").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       33554432 kB\n")
    command = pod["containers"][0]["startupProbe"]["exec"]["command"]
    r = subprocess.run([CISTERN, *command[1:], "--sysroot", str(tmp_path), "--json"], timeout=60, text=True,
                       env=os.environ | {"REUSE_CACHE": "1", "ENABLE_3FS": "1"} | env, stdout=subprocess.PIPE)
    return r.returncode, {c["id"]: c for c in json.loads(r.stdout)["checks"]}


def test_the_probe_asks_neither_storage_nor_the_gpu(tmp_path):
    """No engine is kept from starting by an outage of storage, and none loses memory of its GPU to a probe."""
    code, checks = probe(tmp_path, CISTERN_MOUNT=str(tmp_path / "absent"), THREEFS_READ_IOV_SIZE="4M",
                         THREEFS_WRITE_IOV_SIZE="4M")
    assert code == 0, checks
    assert set(checks) == {"switches", "shm-size", "shm-free", "shm-stale", "memory"}
    assert probe(tmp_path, ENABLE_3FS="perhaps")[0] == 1


def test_the_probe_ends_before_it_is_killed():
    """Else what it has to say is lost."""
    probe = yaml.safe_load(emit("k8s"))["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    words = dict(zip(probe["exec"]["command"], probe["exec"]["command"][1:]))
    assert len(words["--only"].split(",")) * int(words["--timeout"]) < probe["timeoutSeconds"] * 1000


@pytest.mark.parametrize("tp", [1, 4])
def test_the_probe_asks_for_all_ranks_and_outlives_a_killed_engine(tp, tmp_path):
    """/dev/shm of a Pod stays when a container of it is started anew, with what the last one had there."""
    left = tmp_path / "dev" / "shm" / "hf3fs-iov-left"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(4096))
    os.utime(left, (0, 0))
    code, checks = probe(tmp_path, tp=tp, THREEFS_READ_IOV_SIZE="1T", THREEFS_WRITE_IOV_SIZE="1T")
    assert checks["shm-stale"]["state"] == "pass" and not left.exists()
    assert code == 1 and f"{tp} ranks need {2 * tp} TiB" in checks["shm-size"]["cause"]


@pytest.mark.parametrize("more", [[], ["--mount", "/data/kv"], ["--name", "true"]])
def test_kubernetes_schema(more):
    kv = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate (pip) is not installed")
    kv.validate(yaml.safe_load(emit("k8s", "--tp", 4, *more)), "1.29", strict=True)


def test_helm_values_in_the_template_of_a_chart():
    """What the values hold is what the StatefulSet has, so that a chart with such a template gives the same Pod."""
    pod = yaml.safe_load(emit("k8s", "--tp", 2))["spec"]["template"]["spec"]
    values = yaml.safe_load(emit("helm", "--tp", 2))
    container = pod["containers"][0]
    assert values["volumes"] == pod["volumes"] and values["affinity"] == pod["affinity"]
    for member in ("volumeMounts", "resources", "startupProbe", "image"):
        assert values[member] == container[member]
    assert [*({"name": k, "value": v} for k, v in values["env"].items()), *values["extraEnv"]] == container["env"]


def compose():
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], stdout=subprocess.DEVNULL,
                                                     stderr=subprocess.DEVNULL).returncode == 0:
            return words
    return None


def test_docker_compose(tmp_path):
    words = compose()
    if not words:
        pytest.skip("neither docker compose nor docker-compose works here")
    (tmp_path / "docker-compose.yml").write_text(emit("docker", "--tp", 4))
    r = subprocess.run([*words, "config"], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if "daemon" in r.stdout and r.returncode:
        pytest.skip("docker compose wants a daemon here")
    assert r.returncode == 0, r.stdout


def test_systemd(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "engine.service"
    unit.write_text(emit("systemd", "--tp", 4))
    r = subprocess.run(["systemd-analyze", "verify", str(unit)], text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    assert r.returncode == 0 and "engine.service" not in r.stdout, r.stdout
    text = unit.read_text()
    assert "REUSE_CACHE=1 ENABLE_3FS=1" in text and "LimitMEMLOCK=infinity" in text


def test_another_mount():
    o = json.loads(emit("rtp", "--mount", "/mnt/kv/3fs/", "--fuse-service", "x", "--storage-release", "y"))
    assert '"mountPath":"/mnt/kv/"' in o["container_configs"][0]
    assert o["meta_tag_list"][0]["value"] == "x" and o["labels"][0]["name"] == "storage.3fs.release=y"


def test_every_form_tells_the_engine_where_storage_is(tmp_path):
    """As the engine reads it: by doctor, from what is emitted and nothing else."""
    mount = tmp_path / "kv" / "3fs"
    (mount / "mine").mkdir(parents=True)
    words = ["--mount", mount, "--root", "mine"]
    env = {"rtp": json.loads(emit("rtp", *words))["env"], "helm": yaml.safe_load(emit("helm", *words))["env"],
           "docker": yaml.safe_load(emit("docker", *words))["services"]["engine"]["environment"],
           "systemd": dict(re.findall(r"(?<=[ =])([A-Z0-9_]+)=(\S+)", emit("systemd", *words)))}
    container = yaml.safe_load(emit("k8s", *words))["spec"]["template"]["spec"]["containers"][0]
    env["k8s"] = {e["name"]: e["value"] for e in container["env"] if "value" in e}
    clean = {k: v for k, v in os.environ.items() if not re.match("CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS", k)}
    for kind, given in env.items():
        r = subprocess.run([CISTERN, "doctor", "--only", "root", "--json"], env=clean | given, stdout=subprocess.PIPE,
                           text=True, timeout=60)
        assert f"{mount}/mine" in json.loads(r.stdout)["checks"][0]["cause"], (kind, r.stdout)
    assert env["rtp"]["THREEFS_MOUNTPOINT"] == str(mount) and env["rtp"]["THREEFS_ROOT_DIR"] == "mine"


def volume(kind, *args):
    """The volume with storage, and where the container has it."""
    if kind == "rtp":
        texts = dict(line.split("=", 1) for line in json.loads(emit(kind, *args))["container_configs"])
        volumes, mounts = json.loads(texts["JSON_VOLUMES"]), json.loads(texts["JSON_VOLUME_MOUNTS"])
    elif kind == "k8s":
        pod = yaml.safe_load(emit(kind, *args))["spec"]["template"]["spec"]
        volumes, mounts = pod["volumes"], pod["containers"][0]["volumeMounts"]
    else:
        values = yaml.safe_load(emit(kind, *args))
        volumes, mounts = values["volumes"], values["volumeMounts"]
    return [next(v for v in vs if v["name"] == "shared-mountpoint") for vs in (volumes, mounts)]


@pytest.mark.parametrize("kind", ["rtp", "k8s", "helm"])
def test_a_mount_that_no_service_makes_is_the_node_s(kind):
    """An empty directory is filled by the FUSE service, below /3fs/; elsewhere it would be a cache on the kubelet's disk."""
    for mount, shared in (("/data/kv", "/data/"), ("/mnt/a/3fs/", "/mnt/a/"), ("/3fsx/a/b", "/3fsx/a/")):
        v, m = volume(kind, "--mount", mount)
        assert v == {"name": "shared-mountpoint", "hostPath": {"path": shared, "type": "Directory"}}
        assert m == {"name": "shared-mountpoint", "mountPath": shared, "mountPropagation": "HostToContainer"}
    v, m = volume(kind, "--mount", "/3fs/other")
    assert v == {"name": "shared-mountpoint", "emptyDir": {}} and m["mountPath"] == "/3fs/"


@pytest.mark.parametrize("mount", ["/", "//", "/kv", "/kv/", "//kv//", "/./kv/x", "/3fs/../kv", "/3fs/stage/.."])
def test_a_mount_with_no_directory_above_it_is_refused(mount):
    for kind in ("rtp", "k8s", "helm"):
        r = subprocess.run([CISTERN, "plan", *MODEL, "--emit", kind, "--mount", mount], text=True, timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 2 and "--mount " + mount in r.stderr and r.stdout == "", r.stdout + r.stderr
    assert "source: \"/kv\"" in emit("docker", "--mount", "/kv")


@pytest.mark.parametrize("option, word", [("--image", 'a"b'), ("--mount", "/3fs/a b/c"), ("--name", "x: {"), ("--name", "a/b"),
                                          ("--root", "r\nx"), ("--fuse-service", ""), ("--storage-release", "{}"), ("--mount", "/3fs/" + "x" * 500)])
def test_words_that_would_break_a_file_are_refused(option, word):
    for kind in ("rtp", "k8s", "helm", "docker", "systemd"):
        r = subprocess.run([CISTERN, "plan", *MODEL, "--emit", kind, option, word], text=True, timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 2 and option in r.stderr and r.stdout == "", r.stderr


@pytest.mark.parametrize("name", ["true", "null", "e3", "a" * 80, "a" * 51 + "_b", "My_Engine", "_x"])
def test_every_name_is_text_that_kubernetes_takes(name):
    o = yaml.safe_load(emit("k8s", "--name", name))
    pod = o["spec"]["template"]
    helm = yaml.safe_load(emit("helm", "--name", name))["fullnameOverride"]
    names = [o["metadata"]["name"], o["spec"]["serviceName"], pod["metadata"]["labels"]["app"], helm,
             o["spec"]["selector"]["matchLabels"]["app"], pod["spec"]["containers"][0]["name"]]
    assert len(set(names)) == 1 and re.fullmatch("[a-z]([a-z0-9-]{0,50}[a-z0-9])?", names[0]), names
    assert list(yaml.safe_load(emit("docker", "--name", name))["services"]) == [name]


@pytest.mark.parametrize("option, word, kinds", [
    ("--name", "8", ("k8s", "helm")), ("--name", "1e3", ("k8s", "helm")), ("--name", "--", ("k8s", "helm")),
    ("--name", "a+b", ("docker", "k8s")),
    ("--fuse-service", "a/b:c@d", ("rtp", "k8s")), ("--fuse-service", "a" * 64, ("rtp", "k8s")),
    ("--storage-release", "-x-", ("rtp", "helm")), ("--storage-release", "x.", ("rtp", "helm"))])
def test_names_and_labels_that_kubernetes_refuses(option, word, kinds):
    for kind in kinds:
        r = subprocess.run([CISTERN, "plan", *MODEL, "--emit", kind, f"{option}={word}"], text=True, timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 2 and option in r.stderr and r.stdout == "", r.stdout + r.stderr
    assert list(yaml.safe_load(emit("docker", "--name", "1e3"))["services"]) == ["1e3"]
    emit("k8s", "--fuse-service", "a" * 63, "--storage-release", "A.b_c-9")


@pytest.mark.parametrize("name", ["x\u2028kind: Secret", "x\x85kind: Secret", "a" * 62 + "\u00e9", "x\x7f"])
def test_the_name_of_a_model_is_plain_text(name, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"_name_or_path": name, "model_type": "llama", "num_hidden_layers": 1,
                                  "num_attention_heads": 1, "hidden_size": 64}))
    for words in (["--emit", "k8s"], ["--emit", "helm"], ["--json"], []):
        out = subprocess.run([CISTERN, "plan", "--hf-config", config, *words], stdout=subprocess.PIPE).stdout
        assert out.isascii() and b"\x7f" not in out and b"?" in out
        if "--json" not in words and words:
            assert "Secret" not in str(yaml.safe_load(out))


def test_the_name_of_a_model_stays_in_its_comment(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"_name_or_path": "x\nkind: Secret\x1b[2J", "model_type": "llama", "num_hidden_layers": 1,
                                  "num_attention_heads": 1, "hidden_size": 64}))
    r = subprocess.run([CISTERN, "plan", "--hf-config", config, "--emit", "k8s"], text=True, stdout=subprocess.PIPE)
    assert yaml.safe_load(r.stdout)["kind"] == "StatefulSet" and "\x1b" not in r.stdout
    assert r.stdout.startswith("# x?kind: Secret?[2J, bf16")
