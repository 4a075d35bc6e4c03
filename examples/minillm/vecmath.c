/*
 * vecmath.c - softmax, RMSNorm and SwiGLU, written so that the compiler can make vectors of them
 * without leave to reorder: sums run in LANES separate accumulators that are added up in order.
 *
 * On x86-64 each function is compiled for three instruction sets and the loader picks one, so the
 * bits depend on the kind of CPU, as those of the BLAS do, and on nothing else.
 */
#include "vecmath.h"

#include <math.h>
#include <stdint.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#define LANES 16

/* exp(x) for x <= 88, to about 2 ulp; below -87 it is 0 or close to it. */
static inline __attribute__((always_inline)) float fast_exp(float x)
{
    union {
        uint32_t u;
        float f;
    } scale;
    x = x < -87.0f ? -87.0f : x;
    float n = x * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
    n -= 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two pieces */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    scale.u = (uint32_t)((int32_t)n + 127) << 23;
    return p * scale.f;
}

CLONES float vec_softmax(float *s, int n)
{
    float best[LANES], sum[LANES], most, total = 0.0f;
    int whole = n / LANES * LANES;

    for (int k = 0; k < LANES; k++) {
        best[k] = -INFINITY;
        sum[k] = 0.0f;
    }
    for (int i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            best[k] = s[i + k] > best[k] ? s[i + k] : best[k];
    for (int i = whole; i < n; i++)
        best[i - whole] = s[i] > best[i - whole] ? s[i] : best[i - whole];
    most = best[0];
    for (int k = 1; k < LANES; k++)
        most = best[k] > most ? best[k] : most;

    for (int i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float e = fast_exp(s[i + k] - most);
            s[i + k] = e;
            sum[k] += e;
        }
    for (int i = whole; i < n; i++) {
        s[i] = fast_exp(s[i] - most);
        sum[i - whole] += s[i];
    }
    for (int k = 0; k < LANES; k++)
        total += sum[k];
    return 1.0f / total;
}

CLONES void vec_rmsnorm(float *out, const float *x, const float *gain, int n)
{
    float sum[LANES] = {0}, total = 0.0f;
    int whole = n / LANES * LANES;

    for (int i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sum[k] += x[i + k] * x[i + k];
    for (int i = whole; i < n; i++)
        sum[i - whole] += x[i] * x[i];
    for (int k = 0; k < LANES; k++)
        total += sum[k];
    float by = 1.0f / sqrtf(total / (float)n + 1e-5f);
    for (int i = 0; i < n; i++)
        out[i] = x[i] * by * gain[i];
}

CLONES void vec_swiglu(float *restrict gate, const float *restrict up, int n)
{
    for (int i = 0; i < n; i++) {
        float g = gate[i] > 80.0f ? 80.0f : gate[i];
        float e = fast_exp(-(g < -80.0f ? -80.0f : g));
        gate[i] = gate[i] / (1.0f + e) * up[i];
    }
}

CLONES void vec_add(float *restrict x, const float *restrict y, int n)
{
    for (int i = 0; i < n; i++)
        x[i] += y[i];
}

CLONES void vec_scale(float *x, float by, int n)
{
    for (int i = 0; i < n; i++)
        x[i] *= by;
}
