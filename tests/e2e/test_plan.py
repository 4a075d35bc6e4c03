"""cistern plan: sizes of known models, and the configuration that it emits.

The expected bytes are not computed here: they are what the model cards, papers and engines say of each model, with
the source beside them. The configurations are the members of the published config.json that matter.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CISTERN = os.environ.get("CISTERN", str(TOP / "build" / "cistern"))
GIB = 1 << 30


def run(*args):
    return subprocess.run([CISTERN, "plan", *map(str, args)], text=True, timeout=60, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


def plan(*args):
    r = run(*args, "--json")
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


LLAMA = {"model_type": "llama", "torch_dtype": "bfloat16"}
# name: (config, {option: value}, {member: expected}, source)
MODELS = {
    "Llama-2-7B": (
        LLAMA | {"torch_dtype": "float16", "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "hidden_size": 4096, "max_position_embeddings": 4096},
        {}, {"token_bytes": 524288}),  # 0.5 MB a token: NVIDIA, Mastering LLM Techniques: Inference Optimization
    "Llama-3.1-8B": (
        LLAMA | {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
                 "max_position_embeddings": 131072},
        {}, {"token_bytes": 131072}),  # 128 KiB a token: 16 GiB for 128k, Hugging Face's Llama 3.1 page
    "Llama-3.1-405B": (
        LLAMA | {"num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8, "hidden_size": 16384,
                 "max_position_embeddings": 131072},
        {"tp": 8}, {"token_bytes": 516096, "token_bytes_rank": 64512, "shards": 8}),  # 516.096 KB: arXiv 2505.09343
    "Qwen2.5-72B": (
        {"model_type": "qwen2", "torch_dtype": "bfloat16", "num_hidden_layers": 80, "num_attention_heads": 64,
         "num_key_value_heads": 8, "hidden_size": 8192, "max_position_embeddings": 32768, "use_sliding_window": False,
         "sliding_window": 131072},
        {"tp": 4}, {"token_bytes": 327680, "token_bytes_rank": 81920, "shards": 4}),  # 327.680 KB: arXiv 2505.09343
    "Qwen3-8B": (
        {"model_type": "qwen3", "torch_dtype": "bfloat16", "num_hidden_layers": 36, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "hidden_size": 4096, "max_position_embeddings": 40960},
        {}, {"token_bytes": 147456}),  # 36 layers, 8 KV heads of 128 (model card): 144 KiB
    "Mixtral-8x7B": (
        {"model_type": "mixtral", "torch_dtype": "bfloat16", "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "hidden_size": 4096, "sliding_window": None, "max_position_embeddings": 32768},
        {"tp": 2}, {"token_bytes": 131072, "token_bytes_rank": 65536}),  # 32 layers, 8 KV heads of 128: 128 KiB
    "DeepSeek-V3": (
        {"model_type": "deepseek_v3", "torch_dtype": "bfloat16", "num_hidden_layers": 61, "num_attention_heads": 128,
         "num_key_value_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "hidden_size": 7168,
         "max_position_embeddings": 163840},
        {"tp": 8}, {"token_bytes": 70272, "token_bytes_rank": 70272, "shards": 1}),  # 70.272 KB: arXiv 2505.09343
    "DeepSeek-V3.2": (
        {"model_type": "deepseek_v32", "torch_dtype": "bfloat16", "num_hidden_layers": 61, "num_attention_heads": 128,
         "num_key_value_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_head_dim": 128,
         "index_n_heads": 64, "hidden_size": 7168, "max_position_embeddings": 163840},
        {}, {"token_bytes": 78324}),  # 576 elements and, as vLLM keeps it, 132 bytes of indexer: 61 x (1152 + 132)
    "DeepSeek-V2-Lite": (
        {"model_type": "deepseek_v2", "torch_dtype": "bfloat16", "num_hidden_layers": 27, "num_attention_heads": 16,
         "num_key_value_heads": 16, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "hidden_size": 2048,
         "max_position_embeddings": 163840},
        {"dtype": "fp8"}, {"token_bytes": 15552}),  # 27 layers of 576 elements, a byte each
    "gpt-oss-20b": (
        {"model_type": "gpt_oss", "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8,
         "head_dim": 64, "hidden_size": 2880, "sliding_window": 128, "max_position_embeddings": 131072,
         "layer_types": ["sliding_attention", "full_attention"] * 12},
        {"context": 131072},  # 24 KiB a token in full layers, the same in those that look 128 tokens back
        {"token_bytes": 49152, "prompt_bytes_rank": 131072 * 24576 + 128 * 24576}),
    "Gemma-3-27B": (
        {"model_type": "gemma3", "text_config": {
            "model_type": "gemma3_text", "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16,
            "head_dim": 128, "hidden_size": 5376, "sliding_window": 1024, "sliding_window_pattern": 6},
         "torch_dtype": "bfloat16"},
        {"context": 131072},  # 10 full layers and 52 of 1,024 tokens, 8 KiB each (arXiv 2503.19786, 5 to 1)
        {"token_bytes": 507904, "prompt_bytes_rank": 131072 * 81920 + 1024 * 425984}),
    "Qwen3-Next-80B": (
        {"model_type": "qwen3_next", "torch_dtype": "bfloat16", "num_hidden_layers": 48, "num_attention_heads": 16,
         "num_key_value_heads": 2, "head_dim": 256, "hidden_size": 2048, "full_attention_interval": 4,
         "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
         "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "max_position_embeddings": 262144},
        # 12 full layers of 2 heads of 256 (model card); 36 states of 32 x 128 x 128 and 3 x 8,192 of convolution
        {"tp": 4}, {"token_bytes": 24576, "token_bytes_rank": 12288, "state_bytes": 36 * (1048576 + 49152)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_sizes_of_published_models(name, tmp_path):
    config, options, expected = MODELS[name]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    answer = plan("--hf-config", path, *[w for k, v in options.items() for w in (f"--{k}", v)])
    assert {k: answer[k] for k in expected} == expected


@pytest.mark.parametrize("tp, staging, shm", [(1, 8, 10), (2, 16, 20), (4, 32, 40), (8, 64, 80)])
def test_shm_as_the_reference_counts_it(tp, staging, shm):
    """8 GiB a rank; 4 ranks need 32 GiB and are given 40; memory is not below it."""
    p = plan("--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--tp", tp)
    assert p["staging_bytes"] == staging * GIB and p["shm_bytes"] == shm * GIB
    assert p["memory_bytes"] >= p["shm_bytes"]


def test_ranks_are_enough_for_shm():
    """The page's step needs no model: 8 GiB a rank, some for others, memory not below it."""
    p = plan("--tp", 4)
    assert (p["staging_bytes"], p["shm_bytes"]) == (32 * GIB, 40 * GIB) and p["memory_bytes"] >= p["shm_bytes"]
    assert not {"token_bytes", "storage_bytes", "bandwidth_rank", "dtype"} & set(p)
    r = run("--tp", 4, "--arithmetic")
    assert "x 4 ranks = 32 GiB" in r.stdout and "storage" not in r.stdout
    for kind in ("rtp", "k8s", "helm", "docker", "systemd"):
        r = run("--tp", 4, "--emit", kind)
        assert r.returncode == 0 and "CISTERN_CAPACITY_BYTES" not in r.stdout
        assert "40Gi" in r.stdout or "40960" in r.stdout


def test_break_even():
    base = ["--layers", 32, "--kv-heads", 8, "--head-dim", 128]
    assert plan(*base)["break_even_tokens"] is None
    # 100 us to compute a token, 61 us to read its 128 KiB at 2 GiB/s, 5 ms before the first byte
    p = plan(*base, "--prefill-rate", 10000, "--bandwidth", "2G")
    assert p["break_even_tokens"] == 129
    r = run(*base, "--prefill-rate", 100000, "--bandwidth", "1G")
    assert re.search(r"reading beats computing from +never", r.stdout)


DIMS = ["--layers", 32, "--kv-heads", 8, "--head-dim", 128]
HUGE_DIMS = ["--layers", 4096, "--kv-heads", 65536, "--head-dim", 65536, "--dtype", "fp32"]
TOO_MUCH = [
    ([*HUGE_DIMS, "--context", 131072], "2^63"),
    ([*HUGE_DIMS, "--context", 1, "--block-tokens", 65536], "2^63"),
    ([*DIMS, "--hours", "1e9", "--request-seconds", "1e-6"], "2^63"),
    ([*DIMS, "--ttft", "1e-300"], "2^63"),
    ([*DIMS, "--prefill-rate", "1e9", "--bandwidth", "17179869183G", "--read-latency", "1e9", "--lane-rate", 1, "--ttft", "1e-9"],
     "2^63"),
    (["--tp", 4, "--read-staging", "4294967296G"], "--read-staging"),
    (["--tp", 1, "--read-staging", "8388608T", "--write-staging", "8388608T"], "--read-staging"),
    (["--tp", 256, "--read-staging", "65536T"], "--read-staging"),
    (["--tp", 256, "--write-staging", "1025G"], "--write-staging"),
    (["--tp", 1, "--host-memory", "16777215T"], "--host-memory"),
]


@pytest.mark.parametrize("args, words", TOO_MUCH)
def test_no_sum_wraps(args, words):
    """What does not fit is refused in every form, and not printed as something smaller."""
    for form in ([], ["--json"], ["--emit", "k8s"]):
        r = run(*args, *form)
        assert r.returncode == 2 and words in r.stderr and r.stdout == "", r.stdout + r.stderr


def test_the_most_that_is_taken_is_added_up_right():
    p = plan("--tp", 256, "--read-staging", "1T", "--write-staging", "1T", "--host-memory", "16T")
    assert p["staging_bytes"] == 512 << 40 and p["shm_bytes"] == 640 << 40 and p["memory_bytes"] == 656 << 40
    p = plan(*HUGE_DIMS, "--context", 1, "--block-tokens", 1)
    assert p["token_bytes"] == 4096 * 65536 * 65536 * 2 * 4


BIG = 1 << 24
TOO_LARGE_CONFIGS = [
    ({"model_type": "llama", "num_hidden_layers": 4096, "num_attention_heads": BIG, "head_dim": BIG, "torch_dtype": "float32"},
     "2^63"),
    (MODELS["Qwen3-Next-80B"][0] | {k: BIG for k in ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
                                                     "linear_value_head_dim", "linear_conv_kernel_dim")}, "2^63"),
    (MODELS["Qwen3-Next-80B"][0] | {"linear_num_value_heads": 1, "linear_num_key_heads": BIG, "linear_key_head_dim": BIG,
                                    "linear_conv_kernel_dim": BIG}, "linear_"),
    ({"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 64, "hidden_size": 63}, "head_dim"),
]


@pytest.mark.parametrize("config, words", TOO_LARGE_CONFIGS)
def test_a_configuration_whose_sizes_make_no_sense_is_refused(config, words, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    r = run("--hf-config", path)
    assert r.returncode == 2 and words in r.stderr and r.stdout == "", r.stdout + r.stderr


def test_the_arithmetic_is_shown():
    r = run("--layers", 61, "--mla-rank", 512, "--mla-rope", 64, "--tp", 8, "--arithmetic")
    assert r.returncode == 0
    assert "(512 kv_lora_rank + 64 qk_rope_head_dim) x 2 bytes" in r.stdout
    assert "= 70272 bytes a token" in r.stdout
    assert "x 8 ranks = 64 GiB" in r.stdout


BAD = [
    ([], "which model"),
    (["--layers", 32], "which model"),
    (["--layers", 61, "--mla-rank", 512], "with --mla-rank and --mla-rope"),
    (["--layers", 61, "--mla-rope", 64, "--kv-heads", 8, "--head-dim", 128], "with --mla-rank and --mla-rope"),
    (["--hf-config", "/nonexistent.json"], "/nonexistent.json"),
    (["--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--dtype", "int3"], "int3"),
    (["--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--emit", "swarm"], "rtp, k8s, helm, docker and systemd"),
    (["--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--tp", 0], "--tp"),
    (["--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--new", 101], "100 at most"),
    (["--layers", 32, "--kv-heads", 8, "--head-dim", 128, "--mount", "3fs"], "absolute"),
]


@pytest.mark.parametrize("args, words", BAD)
def test_bad_input_is_named(args, words):
    r = run(*args)
    assert r.returncode in (2, 3) and words in r.stderr, r.stderr


CONFIGS = [
    ({"model_type": "jamba", "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096,
      "mamba_d_state": 16}, "mamba_d_state"),
    # Kimi Linear: latent attention in 7 of 27 layers, and a state in the others.
    ({"model_type": "kimi_linear", "num_hidden_layers": 27, "num_attention_heads": 32, "hidden_size": 2304,
      "kv_lora_rank": 512, "qk_rope_head_dim": 64, "linear_attn_config": {"full_attn_layers": [4, 8]}},
     "linear_attn_config"),
    # MiniMax-01: softmax attention in one of eight layers.
    ({"model_type": "minimax", "num_hidden_layers": 8, "num_attention_heads": 64, "num_key_value_heads": 8,
      "head_dim": 128, "hidden_size": 6144, "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1]}, "attn_type_list"),
    # Falcon-7B: one key-value head, which num_key_value_heads does not say.
    ({"model_type": "falcon", "num_hidden_layers": 32, "num_attention_heads": 71, "hidden_size": 4544,
      "multi_query": True}, "multi_query"),
    # Gemma 3n: the last layers share the KV of others.
    ({"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text", "num_hidden_layers": 30,
      "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "num_kv_shared_layers": 10}},
     "num_kv_shared_layers"),
    ({"model_type": "llama", "num_attention_heads": 32, "hidden_size": 4096}, "num_hidden_layers"),
    ({"model_type": "llama", "num_hidden_layers": "32", "num_attention_heads": 32, "hidden_size": 4096},
     "num_hidden_layers"),
    ({"model_type": "x", "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64,
      "layer_types": ["full_attention", "odd_attention"]}, "odd_attention"),
    ({"model_type": "x", "num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 64,
      "layer_types": ["full_attention"]}, "layer_types names 1"),
    ({"model_type": "llama", "num_hidden_layers": 1 << 20, "num_attention_heads": 32, "hidden_size": 4096}, "believed"),
    ([], "not a JSON object"),
]


@pytest.mark.parametrize("config, words", CONFIGS)
def test_a_configuration_that_is_not_understood_is_refused(config, words, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    r = run("--hf-config", path)
    assert r.returncode == 2 and words in r.stderr, r.stderr
    assert r.stdout == ""
