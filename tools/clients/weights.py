#!/usr/bin/env python3
"""A loader of model weights that calls the library through ctypes, on the drop-in.

    tools/clients/weights.py --loader PATH/hf3fs_loader.py [--lib build/hf3fs/libhf3fs_api_shared.so] [--dir TMP]

PATH/hf3fs_loader.py is SGLang's loader for weights on 3FS (load format hf3fs). Needs torch and numpy. The loader opens
/usr/lib/libhf3fs_api_shared.so by that name: each mode runs in a mount namespace of its own with the drop-in in that
place (unshare -m and overlayfs: root), so that nothing on the machine changes. Of SGLang only what the loader imports by
name is there, as stand-ins: the base class, the configuration, ranks. A checkpoint is written with plain system calls and
loaded by each rank; every parameter is compared with the slice that it should be.
"""
import contextlib
import errno
import importlib.util
import json
import os
import struct
import sys
import types

import common

LAYER, EXPERTS, HIDDEN, INNER, VOCAB, RANKS = "model.layers.0.", 3, 256, 384, 1006, 2


def stand_ins(torch):
    """The names that the loader takes from SGLang, without SGLang."""
    class BaseModelLoader:
        def __init__(self, load_config):
            self.load_config = load_config

    class ShardedStateLoader:
        @staticmethod
        def _filter_subtensors(tensors):
            return dict(tensors)

    @contextlib.contextmanager
    def set_default_torch_dtype(dtype):
        old = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(old)

    rank = types.SimpleNamespace(tp_rank=0, tp_size=RANKS)
    modules = {
        "configs.load_config": {"LoadConfig": object}, "configs.model_config": {"ModelConfig": object},
        "model_loader.loader": {
            "BaseModelLoader": BaseModelLoader, "ShardedStateLoader": ShardedStateLoader,
            "_get_quantization_config": lambda *a: None, "_initialize_model": lambda config, *a: config.make(),
            "_post_load_weights": lambda model: None},
        "utils": {"set_default_torch_dtype": set_default_torch_dtype},
        "runtime_context": {"get_parallel": lambda: rank},
    }
    for name, names in modules.items():
        parts = ("sglang.srt." + name).split(".")
        for i in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        vars(sys.modules["sglang.srt." + name]).update(names)
    return rank


def checkpoint(torch):
    """Tensors by name, with row lengths that make odd offsets in the file."""
    shapes = {LAYER + "input_norm.weight": (HIDDEN,), "model.embed_tokens.weight": (VOCAB, HIDDEN),
              LAYER + "self_attn.o_proj.weight": (HIDDEN, HIDDEN)}
    shapes.update({LAYER + "self_attn.%s_proj.weight" % x: (HIDDEN if x == "q" else 64, HIDDEN) for x in "qkv"})
    for e in range(EXPERTS):
        prefix = LAYER + "mlp.experts.%d." % e
        shapes.update({prefix + "gate_proj.weight": (INNER, HIDDEN), prefix + "up_proj.weight": (INNER, HIDDEN),
                       prefix + "down_proj.weight": (HIDDEN, INNER)})
    return {k: torch.randint(-2**15, 2**15, s, dtype=torch.int16).view(torch.bfloat16) for k, s in shapes.items()}


def save(path, tensors):
    header, data = {}, b""
    for name, t in tensors.items():
        raw = bytes(t.view(BYTE).numpy())
        header[name] = {"dtype": "BF16", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def expected(torch, tensors, rank):
    """What one of RANKS holds: rows of most, columns of what is summed, all of what is small."""
    def rows(name):
        return tensors[name].chunk(RANKS)[rank]

    def columns(name):
        return tensors[name].chunk(RANKS, dim=1)[rank]
    local = -(-VOCAB // RANKS)
    experts = [LAYER + "mlp.experts.%d." % e for e in range(EXPERTS)]
    return {
        LAYER + "input_norm.weight": tensors[LAYER + "input_norm.weight"],
        "model.embed_tokens.weight": tensors["model.embed_tokens.weight"][rank * local:(rank + 1) * local],
        LAYER + "self_attn.o_proj.weight": columns(LAYER + "self_attn.o_proj.weight"),
        LAYER + "self_attn.qkv_proj.weight": torch.cat([rows(LAYER + "self_attn.%s_proj.weight" % x) for x in "qkv"]),
        LAYER + "mlp.experts.w13_weight": torch.stack(
            [torch.cat([rows(p + "gate_proj.weight"), rows(p + "up_proj.weight")]) for p in experts]),
        LAYER + "mlp.experts.w2_weight": torch.stack([columns(p + "down_proj.weight") for p in experts]),
    }


class Model:
    """As much of a module as the loader touches."""

    def __init__(self, torch, shapes):
        self.state = {k: torch.zeros(s, dtype=torch.bfloat16) for k, s in shapes.items()}

    def named_modules(self):
        return []

    def state_dict(self):
        return self.state

    def eval(self):
        return self


def load(torch, loader, path, want, **extra):
    shapes = {k: tuple(t.shape) for k, t in want.items()}
    shapes["model.embed_tokens.weight"] = (-(-VOCAB // RANKS), HIDDEN)
    config = types.SimpleNamespace(model_path=path, dtype=torch.bfloat16, make=lambda: Model(torch, shapes))
    options = types.SimpleNamespace(model_loader_extra_config=dict({"slice_threshold": 1024}, **extra))
    model = loader.Hf3fsModelLoader(options).load_model(
        model_config=config, device_config=types.SimpleNamespace(device="cpu"))
    for name, t in want.items():
        got = model.state[name][:len(t)]
        assert torch.equal(got.view(torch.int16), t.view(torch.int16)), name


def cases(args):
    global BYTE
    try:
        import numpy
        import torch
    except ImportError as e:
        common.missing(str(e))
    BYTE = torch.uint8
    rank = stand_ins(torch)
    spec = importlib.util.spec_from_file_location("hf3fs_loader", args.loader)
    if spec is None or not os.path.exists(args.loader):
        common.missing(args.loader)
    loader = sys.modules["hf3fs_loader"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    if not os.path.exists("/usr/lib/" + common.LIBRARY):
        common.missing("/usr/lib/%s in this mount namespace" % common.LIBRARY)
    tensors = checkpoint(torch)

    def model_dir(place):
        path = os.path.join(place.mount, "model")
        if not os.path.isdir(path):
            os.mkdir(path)
            names = list(tensors)
            for i in range(2):
                save("%s/model-%d.safetensors" % (path, i), {n: tensors[n] for n in names[i::2]})
        return path

    def whole_model(place, **extra):
        for rank.tp_rank in range(RANKS):
            load(torch, loader, model_dir(place), expected(torch, tensors, rank.tp_rank), **extra)

    def whole_model_little_memory(place):
        whole_model(place, iov_size=262144, io_entries=2)

    def memory_as_by_default(place):
        whole_model(place, iov_size=2 << 30, io_entries=1024, numa=0)

    def many_small_ranges(place):
        data = os.urandom(3 << 20)
        fd = os.open(place.file("ranges", data), os.O_RDONLY)
        reader = loader.UsrbioReader(place.mount.encode(), iov_size=1 << 20, entries=16)
        assert reader.lib.hf3fs_reg_fd(fd, 0) <= 0
        ranges = [(i * 9973, i * 9973 + 1 + i * 7) for i in range(300)]
        out = numpy.zeros(sum(e - s for s, e in ranges), dtype=numpy.uint8)
        reader.read_ranges(fd, ranges, out)
        assert out.tobytes() == b"".join(data[s:e] for s, e in ranges)
        reader.lib.hf3fs_dereg_fd(fd)
        os.close(fd)
        for _ in range(2):
            reader.close()

    def refusals(place):
        def refuses(text, call, *a, **k):
            try:
                call(*a, **k)
            except (AssertionError, ValueError) as e:
                assert text in str(e), e
                return
            raise AssertionError("accepted, not: " + text)
        refuses("hf3fs_extract_mount_point", loader.extract_mount_point, "/proc/self")
        refuses("hf3fs_iovcreate failed: -%d" % errno.ENOENT, loader.UsrbioReader, b"/proc/self", 4096)
        refuses("hf3fs_iorcreate4 failed: -%d" % errno.EINVAL, loader.UsrbioReader, place.mount.encode(), 4096, 0)
        refuses("local (3FS-mounted)", load, torch, loader, place.mount + "/none", {})
        reader, out = loader.UsrbioReader(place.mount.encode(), 1 << 20), numpy.zeros(4096, dtype=numpy.uint8)
        fd = os.open(place.file("write-only", bytes(8192)), os.O_WRONLY)
        refuses("hf3fs_prep_io: -%d" % errno.EBADF, reader.read_ranges, fd, [(0, 4096)], out)
        assert reader.lib.hf3fs_reg_fd(fd, 0) <= 0 and reader.lib.hf3fs_reg_fd(fd, 0) == errno.EINVAL
        refuses("hf3fs_prep_io: -%d" % errno.EACCES, reader.read_ranges, fd, [(0, 4096)], out)
        reader.lib.hf3fs_dereg_fd(fd)
        os.close(fd)
        reader.close()

    def no_links_stay(place):
        assert place.links() == [], place.links()  # before the refusals: the loader leaves its memory where a ring fails
    return [whole_model, whole_model_little_memory, memory_as_by_default, many_small_ranges, no_links_stay, refusals]


OVERLAY = """dir=$(mktemp -d) && cp "$0" "$dir/" && mount -t overlay overlay -o lowerdir="$dir":/usr/lib /usr/lib || exit 3
"$@"
rc=$?
rm -r "$dir"
exit $rc
"""


def in_place(lib, command):
    if os.geteuid() != 0:
        common.missing("root, to put the drop-in at /usr/lib in a mount namespace")
    return ["unshare", "-m", "sh", "-c", OVERLAY, lib] + command


if __name__ == "__main__":
    common.main(__doc__, cases, [("--loader", "hf3fs_loader.py of SGLang")], in_place)
