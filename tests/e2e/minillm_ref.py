"""The model of examples/minillm in NumPy, from its description alone, for comparison.

Weights come from the generator that examples/minillm/weights.c documents. Everything after that is
computed in float64, whole, without cache, ranks or blocks.
"""
import math

import numpy as np

VOCAB = 256
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x):
    x = x ^ (x >> np.uint64(30))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> np.uint64(27))
    x = x * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def unit(seed, tensor, count):
    """`count` numbers in [-1, 1), exact in float32."""
    with np.errstate(over="ignore"):
        stream = mix(np.array([seed], np.uint64) + np.uint64(tensor + 1) * GOLDEN)
        bits = mix(stream + np.arange(count, dtype=np.uint64) * GOLDEN) >> np.uint64(40)
    return bits.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


class Model:
    def __init__(self, seed=1, layers=3, d_model=512, heads=8, kv_heads=4, head_dim=64, ffn=1408):
        self.layers, self.d, self.heads, self.kv_heads = layers, d_model, heads, kv_heads
        self.hd, self.ffn = head_dim, ffn
        inner = heads * head_dim
        depth = math.sqrt(2.0 * layers)

        def matrix(tensor, rows, columns, bound):
            flat = np.float32(bound) * unit(seed, tensor, rows * columns)
            return flat.reshape(rows, columns).astype(np.float64)

        def gain(tensor):
            u = unit(seed, tensor, d_model)
            return (np.float32(1) + np.float32(0.1) * u).astype(np.float64)

        into = math.sqrt(3.0 / d_model)
        self.embedding = matrix(0, VOCAB, d_model, math.sqrt(3.0))
        self.final_norm = gain(1)
        self.head = matrix(2, VOCAB, d_model, into)
        self.layer = []
        for i in range(layers):
            t = 16 * (i + 1)
            self.layer.append({
                "attn_norm": gain(t),
                "q": matrix(t + 1, inner, d_model, into),
                "k": matrix(t + 2, kv_heads * head_dim, d_model, into),
                "v": matrix(t + 3, kv_heads * head_dim, d_model, into),
                "o": matrix(t + 4, d_model, inner, math.sqrt(3.0 / inner) / depth),
                "mlp_norm": gain(t + 5),
                "gate": matrix(t + 6, ffn, d_model, into),
                "up": matrix(t + 7, ffn, d_model, into),
                "down": matrix(t + 8, d_model, ffn, math.sqrt(3.0 / ffn) / depth),
            })

    @staticmethod
    def norm(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain

    def rope(self, x):
        """x: [tokens][heads][head_dim]; pairs (i, i + head_dim / 2) turn together."""
        half = self.hd // 2
        angle = np.outer(np.arange(len(x)), 10000.0 ** (-2.0 * np.arange(half) / self.hd))
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * c - b * s, b * c + a * s], -1)

    def attention(self, w, x):
        n = len(x)
        q = self.rope((x @ w["q"].T).reshape(n, self.heads, self.hd))
        k = self.rope((x @ w["k"].T).reshape(n, self.kv_heads, self.hd))
        v = (x @ w["v"].T).reshape(n, self.kv_heads, self.hd)
        hidden = np.triu(np.ones((n, n), bool), 1)
        out = np.empty((n, self.heads, self.hd))
        for h in range(self.heads):
            group = h // (self.heads // self.kv_heads)
            scores = q[:, h] @ k[:, group].T / math.sqrt(self.hd)
            scores[hidden] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, group]
        return out.reshape(n, -1) @ w["o"].T

    def logits(self, tokens):
        """Logits after the last of `tokens` (bytes)."""
        x = self.embedding[list(tokens)]
        for w in self.layer:
            x = x + self.attention(w, self.norm(x, w["attn_norm"]))
            y = self.norm(x, w["mlp_norm"])
            g = y @ w["gate"].T
            x = x + (g / (1 + np.exp(-g)) * (y @ w["up"].T)) @ w["down"].T
        return self.norm(x[-1], self.final_norm) @ self.head.T
