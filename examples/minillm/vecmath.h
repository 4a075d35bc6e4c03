/*
 * vecmath.h - the loops between the matrix products. Each gives the same bits for the same input of
 * the same length, whatever ran before: fixed order of sums, no library calls.
 */
#ifndef MINILLM_VECMATH_H
#define MINILLM_VECMATH_H

/* s[i] = exp(s[i] - max) over the first n; returns 1 / their sum. n >= 1. */
float vec_softmax(float *s, int n);
/* out = x / sqrt(mean(x^2) + 1e-5) * gain */
void vec_rmsnorm(float *out, const float *x, const float *gain, int n);
/* gate[i] = silu(gate[i]) * up[i] */
void vec_swiglu(float *gate, const float *up, int n);
/* x += y */
void vec_add(float *x, const float *y, int n);
void vec_scale(float *x, float by, int n);

#endif
