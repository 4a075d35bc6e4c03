"""The dashboard, the alerts and the live page name only metrics that exist, each as what it is; and they are well-formed.

What exists is the third column of docs/METRICS.md, which lint compares with the table that the library is compiled from.
Prometheus' own promtool reads every expression, those of the dashboard too.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
DASHBOARD = TOP / "deploy" / "grafana" / "cistern.json"
PROMETHEUS = TOP / "deploy" / "prometheus"
RULES = PROMETHEUS / "cistern.rules.yml"
LIVE = TOP / "deploy" / "live" / "index.html"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool (Debian package prometheus, tools/setup.sh validators)")
BUILT_IN = {"$__rate_interval": "5m", "$__range": "1h"}


def metrics():
    """Every series that an exporter shows: name -> counter, gauge, bucket, or what belongs to a histogram."""
    text = (TOP / "docs" / "METRICS.md").read_text()
    series = {}
    for kind, name in re.findall(r"^\| `\w+` \| (counter|gauge|histogram) \| `(cistern_\w+)` \|", text, re.M):
        if kind == "histogram":
            series |= {name + "_bucket": "bucket", name + "_sum": "counter", name + "_count": "counter"}
        else:
            series[name] = kind
    assert len(series) > 100
    assert "`cistern_handle_age_seconds`" in text
    return series | {"cistern_handle_age_seconds": "gauge"}


SERIES = metrics()


def complaints(expr):
    """What is wrong with the metrics in an expression: unknown, or a counter used as it stands, or a gauge as a rate."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    found = []
    for m in re.finditer(r"\bcistern_\w+", bare):
        name, kind = m.group(), SERIES.get(m.group())
        in_rate = re.search(r"\b(?:rate|increase)\(\s*$", bare[:m.start()])
        if kind is None:
            found.append(f"{name} does not exist")
        elif kind == "gauge" and in_rate:
            found.append(f"{name} is a gauge and has no rate")
        elif kind != "gauge" and not in_rate:
            found.append(f"{name} only grows: its rate or increase is meant")
        if kind == "bucket" and not ("histogram_quantile" in bare and re.search(r"by \([^)]*\ble\b", bare)):
            found.append(f"{name} is for histogram_quantile by (le)")
    return found


def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels():
    return [p for p in dashboard()["panels"] if p["type"] != "row"]


def panel_exprs():
    return [(p["title"], t["expr"]) for p in panels() for t in p["targets"]]


def rules():
    return [r for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]]


def test_every_metric_exists():
    wrong = [(title, c) for title, expr in panel_exprs() for c in complaints(expr)]
    wrong += [(r["alert"], c) for r in rules() for c in complaints(r["expr"])]
    wrong += [("variable " + v["name"], name) for v in dashboard()["templating"]["list"]
              for name in re.findall(r"\bcistern_\w+", str(v.get("definition"))) if name not in SERIES]
    assert wrong == []


def test_the_live_page_asks_for_what_exists():
    text = LIVE.read_text()
    counters, gauges = (re.search(r"const %s = `(.*?)`" % which, text, re.S).group(1).split()
                        for which in ("COUNTERS", "GAUGES"))
    latency = re.search(r'const LATENCY = "(\w+)"', text).group(1)
    assert len(counters) > 20 and len(gauges) > 10
    assert [n for n in counters if SERIES.get(f"cistern_{n}_total") != "counter"] == []
    assert [n for n in gauges if SERIES.get(f"cistern_{n}") != "gauge"] == []
    assert SERIES.get(latency) == "bucket"
    # And what it shows of them, it asks for.
    used = set(re.findall(r'(?:PLACE\.(\w+)|\b(?:g|get|now|having|on|total|rate|grew)\((?:\w+, )?"(\w+)"[,)])', text))
    used = {a or b for a, b in used}
    assert len(used) > 30, used
    assert used - set(counters) - set(gauges) == set()


@pytest.mark.parametrize("expr, says", [
    ("sum(rate(cistern_get_hit_blockz_total[5m]))", "does not exist"),
    ("sum(rate(cistern_get_hit_blocks[5m]))", "does not exist"),
    ("sum(cistern_get_bytes_total)", "only grows"),
    ("rate(cistern_breaker_open[5m])", "is a gauge"),
    ("histogram_quantile(0.9, sum(rate(cistern_get_latency_seconds_bucket[5m])))", "by (le)"),
    ('increase( cistern_get_bytes_total{model="cistern_x"}[1m]) / cistern_no_such', "cistern_no_such does not exist"),
])
def test_a_wrong_name_is_found(expr, says):
    assert len(complaints(expr)) == 1 and says in complaints(expr)[0]


def test_a_wrong_name_is_found_in_the_dashboard_and_the_rules(monkeypatch):
    """The same checks, over files into which one wrong name was planted."""
    texts = {f: f.read_text() for f in (DASHBOARD, RULES)}
    for planted, name in ((DASHBOARD, "cistern_get_bytes_total"), (RULES, "cistern_tripped")):
        changed = texts[planted].replace(name, name.replace("cistern_", "cistern_not_"), 1)
        assert changed != texts[planted]
        with monkeypatch.context() as m:
            read = Path.read_text
            m.setattr(Path, "read_text", lambda self, *a, **k: changed if self == planted else read(self, *a, **k))
            with pytest.raises(AssertionError, match="cistern_not_"):
                test_every_metric_exists()


def test_dashboard_is_what_grafana_10_takes():
    d = dashboard()
    assert d["schemaVersion"] >= 38 and d["uid"] and d["title"] and d["tags"] and "id" not in d
    ids = [p["id"] for p in d["panels"]]
    assert len(set(ids)) == len(ids)
    kinds = {v["name"]: v["type"] for v in d["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "host": "query", "model": "query", "shard": "query"}
    assert [p["title"] for p in d["panels"] if p["type"] == "row"] == ["Is it worth it", "Traffic", "Latency", "Storage",
                                                                       "Health"]
    for v in d["templating"]["list"]:
        assert v["label"] and v["description"]
        if v["type"] == "query":
            assert v["multi"] and v["includeAll"] and v["datasource"]["uid"] == "${datasource}"


def test_every_panel_explains_itself():
    for p in panels():
        where = p["title"]
        assert p["title"] and len(p["description"]) > 15, where
        assert p["fieldConfig"]["defaults"]["unit"], where
        assert p["type"] in ("timeseries", "stat") and p["targets"], where
        assert p["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
        refs = [t["refId"] for t in p["targets"]]
        assert len(set(refs)) == len(refs), where
        for t in p["targets"]:
            assert t["legendFormat"] and t["datasource"] == p["datasource"], where
            # Every series is chosen by the three variables, and no other variable is used.
            assert len(re.findall(r"\bcistern_\w+", t["expr"])) == t["expr"].count("$host") == t["expr"].count("$model") == \
                t["expr"].count("$shard"), where
            assert set(re.findall(r"\$\w+", t["expr"])) <= {"$host", "$model", "$shard", *BUILT_IN}, where


def test_panels_do_not_overlap():
    taken = {}
    for p in dashboard()["panels"]:
        g = p["gridPos"]
        assert 0 < g["w"] and 0 <= g["x"] and g["x"] + g["w"] <= 24 and g["h"] > 0
        for x in range(g["x"], g["x"] + g["w"]):
            for y in range(g["y"], g["y"] + g["h"]):
                assert taken.setdefault((x, y), p["id"]) == p["id"], (p["title"], x, y)


def promtool(*args):
    r = subprocess.run([PROMTOOL, *map(str, args)], text=True, capture_output=True, timeout=120)
    return r.returncode, r.stdout + r.stderr


@needs_promtool
def test_expressions_of_the_dashboard_parse(tmp_path):
    """As recording rules, with what Grafana puts in for its variables."""
    made = []
    for i, (_, expr) in enumerate(panel_exprs()):
        for k, v in BUILT_IN.items():
            expr = expr.replace(k, v)
        made.append({"record": f"panel:{i}", "expr": re.sub(r"\$(host|model|shard)", ".*", expr)})
    out = tmp_path / "panels.yml"
    out.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    code, says = promtool("check", "rules", out)
    assert code == 0 and f"{len(made)} rules found" in says, says
    made[3]["expr"] += ")"
    out.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    assert promtool("check", "rules", out)[0] != 0


@needs_promtool
def test_rules_and_scrape_configuration_check():
    code, says = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0 and f"{len(rules())} rules found" in says, says


def test_every_alert_explains_itself():
    names = [r["alert"] for r in rules()]
    assert len(set(names)) == len(names) >= 12
    for r in rules():
        assert r["labels"]["severity"] in ("critical", "warning", "info"), r["alert"]
        assert r["annotations"]["summary"] and r["annotations"]["description"], r["alert"]
        # A label that a sentence names is one that the expression keeps.
        for label in set(re.findall(r"\$labels\.(\w+)", r["annotations"]["summary"] + r["annotations"]["description"])):
            assert re.search(r"by \([^)]*\b%s\b" % label, r["expr"]) or r["expr"].startswith("up{"), (r["alert"], label)


def test_the_manual_lists_the_alerts():
    rows = re.findall(r"^\| `(Cistern\w+)` \| (\w+) \|", (TOP / "docs" / "METRICS.md").read_text(), re.M)
    assert rows == [(r["alert"], r["labels"]["severity"]) for r in rules()]


HERE = 'instance="h1:9464",root="/r",model="m",shard="0",pid="7",handle="1"'
# alert -> series as promtool writes them; each alert fires on these after an hour and on none of the others.
FIRING = {
    "CisternStorageNotAnswering": {"cistern_breaker_open": "1x120"},
    "CisternStorageRefusesWrites": {"cistern_breaker_puts_open": "1x120"},
    "CisternTripped": {"cistern_tripped": "1x120"},
    "CisternBlocksDiffer": {"cistern_shadow_differs_total": "0+1x120"},
    "CisternDamagedBlocks": {"cistern_bad_checksum_blocks_total": "0+1x120", "cistern_bad_length_blocks_total": "0x120"},
    "CisternStorageSlow": {"cistern_io_timeouts_total": "0+1x120"},
    "CisternStorageErrors": {"cistern_io_read_errors_total": "0x120", "cistern_io_write_errors_total": "0+1x120",
                             "cistern_sync_errors_total": "0x120"},
    "CisternStagingHeldBack": {"cistern_read_slots": "64x120", "cistern_read_slots_quarantined": "40x120",
                               "cistern_write_slots": "64x120", "cistern_write_slots_quarantined": "0x120"},
    "CisternPutsDropped": {"cistern_put_dropped_blocks_total": "0+10x120", "cistern_put_stored_blocks_total": "0+90x120"},
    "CisternOverBudget": {"cistern_usage_bytes": "120x120", "cistern_capacity_bytes": "100x120"},
    "CisternFileSystemFull": {"cistern_filesystem_bytes": "100x120", "cistern_filesystem_free_bytes": "2x120"},
    "CisternFilesStuck": {"cistern_usage_stuck_bytes": "1x120"},
    "CisternNotWorthIt": {"cistern_saved_seconds_total": "0+1x120", "cistern_spent_seconds_total": "0+2x120"},
}
QUIET = {
    "cistern_breaker_open": "0x120", "cistern_breaker_puts_open": "0x120", "cistern_tripped": "0x120",
    "cistern_shadow_differs_total": "5x120", "cistern_bad_checksum_blocks_total": "5x120",
    "cistern_bad_length_blocks_total": "5x120", "cistern_io_timeouts_total": "5x120",
    "cistern_io_read_errors_total": "5x120", "cistern_io_write_errors_total": "5x120",
    "cistern_sync_errors_total": "5x120", "cistern_read_slots": "64x120", "cistern_read_slots_quarantined": "8x120",
    "cistern_write_slots": "64x120", "cistern_write_slots_quarantined": "0x120",
    "cistern_put_dropped_blocks_total": "0+1x120", "cistern_put_stored_blocks_total": "0+99x120",
    "cistern_usage_bytes": "100x120", "cistern_capacity_bytes": "100x120", "cistern_filesystem_bytes": "100x120",
    "cistern_filesystem_free_bytes": "20x120", "cistern_usage_stuck_bytes": "0x120",
    "cistern_saved_seconds_total": "0+2x120", "cistern_spent_seconds_total": "0+1x120",
    "cistern_match_keys_total": "0+100x120", "cistern_match_blocks_total": "0+80x120",
}


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path):
    """promtool plays two hours: all is well, and then for each alert the same with one thing wrong."""
    tests = []
    for alert, wrong in [(None, {}), *FIRING.items()]:
        series = {"up": "1x120", **QUIET, **wrong}
        tests.append({"interval": "1m", "input_series": [
            {"series": f'{n}{{job="cistern",instance="h1:9464"}}' if n == "up" else f"{n}{{{HERE}}}", "values": v}
            for n, v in series.items()], "promql_expr_test": [
            {"expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})", "eval_time": "119m",
             "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []}]})
    tests.append({"interval": "1m", "input_series": [{"series": 'up{job="cistern",instance="h1:9464"}', "values": "0x120"}],
                  "promql_expr_test": [{"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "119m",
                                        "exp_samples": [{"labels": '{alertname="CisternExporterDown"}', "value": 1}]}]})
    # Half of what was found the day before: 80 of 100 for a day, then 20 of 100 for three hours.
    tests.append({"interval": "1m", "input_series": [
        {"series": f"cistern_match_keys_total{{{HERE}}}", "values": "0+100x1620"},
        {"series": f"cistern_match_blocks_total{{{HERE}}}", "values": "0+80x1440 115220+20x180"}],
        "promql_expr_test": [{"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "1619m",
                              "exp_samples": [{"labels": '{alertname="CisternFewerHits"}', "value": 1}]}]})
    out = tmp_path / "play.yml"
    out.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    code, says = promtool("test", "rules", out)
    assert code == 0, says
    assert {r["alert"] for r in rules()} == set(FIRING) | {"CisternExporterDown", "CisternFewerHits"}
