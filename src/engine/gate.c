/*
 * gate.c - the cost gate: its sums (pure), and its question at a match.
 */
#include "engine/gate.h"

#include "base/bits.h"
#include "engine/engine.h"
#include "engine/lane_internal.h"

#define SAMPLE_NS (20 * NS_PER_MS) /* a busy lane adds up this often */
#define FADE_NS   NS_PER_S         /* work that is older than that counts half, and so on */
#define LEAST_NS  (100 * 1000ull)  /* of work, before a rate is told */

void gate_meter_turn(struct gate_meter *m, bool busy, uint64_t now)
{
    uint64_t ns = m->since_ns ? now - m->since_ns : 0;

    if (m->since_ns && (!busy || ns >= SAMPLE_NS)) {
        m->bytes += m->got;
        m->ns += ns;
        m->got = 0;
        while (m->ns > FADE_NS) {
            m->bytes /= 2;
            m->ns /= 2;
        }
        if (m->ns >= LEAST_NS)
            atomic_store_explicit(&m->rate, 1 + (uint64_t)((double)m->bytes * 1e9 / (double)m->ns),
                                  memory_order_relaxed);
        m->since_ns = busy ? now : 0;
    } else if (busy && !m->since_ns) {
        m->since_ns = now;
    }
}

bool gate_refuses(const struct gate_facts *f)
{
    double load, compute;

    if (!f->prefill_rate || !f->rate || !f->tokens)
        return false;
    load = ((double)f->waiting + (double)f->bytes * f->lanes / (f->shares ? f->shares : 1)) /
           (double)f->rate;
    compute = (double)f->tokens / (double)f->prefill_rate;
    return load > compute;
}

uint64_t gate_run_bytes(const struct match_rules *rules, const uint64_t *part_bytes,
                        uint32_t nparts, uint32_t blocks)
{
    uint64_t bytes = 0;
    uint32_t p;

    for (p = 0; p < nparts; p++) {
        uint16_t bit = (uint16_t)(1u << p);
        uint64_t n = rules->all & bit    ? blocks
                     : rules->last & bit ? min_u64(1, blocks)
                                         : min_u64(rules->window[p], blocks);

        bytes += n * part_bytes[p];
    }
    return bytes;
}

/* ---- At a match ---- */

uint64_t engine_read_rate(const cistern *c)
{
    uint64_t rate = 0, known = 0;
    uint32_t i;

    for (i = 0; i < c->nlanes; i++) {
        uint64_t one = atomic_load_explicit(&c->lanes[i].meter.rate, memory_order_relaxed);

        rate += one;
        known += one != 0;
    }
    return known ? rate * c->nlanes / known : 0; /* the others are taken to be as fast */
}

static bool try_now(cistern *c)
{
    uint64_t now = clock_ns(), next = atomic_load(&c->gate_try_ns);

    return now >= next && atomic_compare_exchange_strong(&c->gate_try_ns, &next, now + GATE_TRY_NS);
}

bool engine_gates(cistern *c, uint32_t blocks)
{
    struct gate_facts f = {.prefill_rate = c->cfg.prefill_rate, .lanes = c->nlanes};

    if (!f.prefill_rate || !c->nlanes || !blocks)
        return false;
    f.tokens = (uint64_t)blocks * c->cfg.block_tokens;
    f.bytes = gate_run_bytes(&c->cfg.rules, c->cfg.part_bytes, c->cfg.nparts, blocks);
    f.waiting = atomic_load_explicit(&c->waiting_bytes, memory_order_relaxed);
    f.rate = engine_read_rate(c);
    f.shares = engine_get_shares(c, blocks, f.bytes);
    if (!gate_refuses(&f))
        return false;
    if (try_now(c)) {
        metric_add(&c->metrics, METRIC_gate_tries, 1);
        return false;
    }
    metric_add(&c->metrics, METRIC_gated_matches, 1);
    metric_add(&c->metrics, METRIC_gated_blocks, blocks);
    return true;
}
