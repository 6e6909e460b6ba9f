"""Compiled loops of the scattering covariance: one map at a time, one thread.

Maps are rows of padded faces (see `layout`), so that every inner loop runs over contiguous
memory. The columns A of a level, all that is filtered there, exist for a block of cells only:
they are made, multiplied into the Gram matrix and forgotten, and made again for the gradient.
"""

# ruff: noqa: ANN001, ANN202  (numba infers the types)

from __future__ import annotations

import numpy as np

from emulators.compiled import compiled

__all__ = ["coarsen", "level_backward", "level_forward", "refine"]

_BLOCK = 128  # cells: columns of a block, and the filters of an orientation, stay in the L1/L2


@compiled
def _filter(x, weights, shifts, start, size, real, imag):
    """One complex filter: columns `x` (cells,) to `real`, `imag` (size,)."""
    o0, o1, o2 = start + shifts[0], start + shifts[1], start + shifts[2]
    o3, o4, o5 = start + shifts[3], start + shifts[4], start + shifts[5]
    o6, o7, o8 = start + shifts[6], start + shifts[7], start + shifts[8]
    x0, x1, x2 = x[o0 : o0 + size], x[o1 : o1 + size], x[o2 : o2 + size]
    x3, x4, x5 = x[o3 : o3 + size], x[o4 : o4 + size], x[o5 : o5 + size]
    x6, x7, x8 = x[o6 : o6 + size], x[o7 : o7 + size], x[o8 : o8 + size]
    for part in range(2):
        w = weights[part]
        out = real if part == 0 else imag
        w0, w1, w2 = w[0, start:], w[1, start:], w[2, start:]
        w3, w4, w5 = w[3, start:], w[4, start:], w[5, start:]
        w6, w7, w8 = w[6, start:], w[7, start:], w[8, start:]
        for p in range(size):
            out[p] = (
                w0[p] * x0[p] + w1[p] * x1[p] + w2[p] * x2[p]
                + w3[p] * x3[p] + w4[p] * x4[p] + w5[p] * x5[p]
                + w6[p] * x6[p] + w7[p] * x7[p] + w8[p] * x8[p]
            )  # fmt: skip


@compiled
def _unfilter(real, imag, weights, shifts, start, size, gradient):
    """Adjoint of `_filter`: adds to `gradient` (cells,)."""
    for n in range(9):
        g = gradient[start + shifts[n] : start + shifts[n] + size]
        wr, wi = weights[0, n, start:], weights[1, n, start:]
        for p in range(size):
            g[p] += wr[p] * real[p] + wi[p] * imag[p]


@compiled
def _fill(x, halo, source):
    """Copy pixels into the frames of the faces."""
    for k in range(x.shape[0]):
        row = x[k]
        for i in range(len(halo)):
            row[halo[i]] = row[source[i]]


@compiled
def _fold(x, halo, source):
    """Adjoint of `_fill`."""
    for k in range(x.shape[0]):
        row = x[k]
        for i in range(len(halo)):
            row[source[i]] += row[halo[i]]
            row[halo[i]] = 0


@compiled
def coarsen(x, smoother, shifts, nside, out):
    """Smooth and average 2 x 2: (K, cells) to (K, coarse cells), frames left alone."""
    width, half = nside + 2, nside // 2
    size = x.shape[1] - 2 * (width + 1)
    start = width + 1
    smooth = np.zeros(x.shape[1], x.dtype)
    for k in range(x.shape[0]):
        row = x[k]
        smooth[:] = 0
        inner = smooth[start : start + size]
        for n in range(9):
            w, shifted = smoother[n, start:], row[start + shifts[n] :]
            for p in range(size):
                inner[p] += w[p] * shifted[p]
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                for b in range(half):
                    i = low + 2 * b
                    total = smooth[i] + smooth[i + 1] + smooth[i + width] + smooth[i + width + 1]
                    out[k, to + b] = total / 4


@compiled
def refine(gradient, smoother, shifts, nside, out):
    """Adjoint of `coarsen`: adds to `out` (K, cells)."""
    width, half = nside + 2, nside // 2
    size = out.shape[1] - 2 * (width + 1)
    start = width + 1
    spread = np.zeros(out.shape[1], out.dtype)
    for k in range(out.shape[0]):
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                for b in range(half):
                    g = gradient[k, to + b] / 4
                    i = low + 2 * b
                    spread[i] = g
                    spread[i + 1] = g
                    spread[i + width] = g
                    spread[i + width + 1] = g
        for n in range(9):
            w = smoother[n, start:]
            row = out[k, start + shifts[n] :]
            for p in range(size):
                row[p] += w[p] * spread[start + p]


@compiled
def _gram(columns, mask, start, size, out):
    """Add the weighted products of a block: Re above and on the diagonal, Im below."""
    k_max = columns.shape[1]
    weighted_r, weighted_i = np.empty(size, columns.dtype), np.empty(size, columns.dtype)
    for k in range(k_max):
        ar, ai, m = columns[0, k], columns[1, k], mask[start:]
        for p in range(size):
            weighted_r[p] = m[p] * ar[p]
            weighted_i[p] = m[p] * ai[p]
        for other in range(k, k_max):
            br, bi = columns[0, other], columns[1, other]
            same, turned = columns.dtype.type(0), columns.dtype.type(0)
            for p in range(size):
                same += weighted_r[p] * br[p] + weighted_i[p] * bi[p]
                turned += weighted_r[p] * bi[p] - weighted_i[p] * br[p]
            out[k, other] += same
            if other > k:
                out[other, k] += turned


@compiled
def _hermitian(slope, real, imag):
    """The matrix H of gradient columns H A, for the packed gradient `slope` (K, K) of <A^H A>."""
    for k in range(len(slope)):
        real[k, k], imag[k, k] = 2 * slope[k, k], 0
        for other in range(k + 1, len(slope)):
            real[k, other] = real[other, k] = slope[k, other]
            imag[k, other], imag[other, k] = -slope[other, k], slope[other, k]


@compiled
def _ungram(columns, mask, start, size, real, imag, first, out):
    """Gradient of a block's columns A: mask H A, put into `out` or, if not `first`, added."""
    k_max = columns.shape[1]
    m = mask[start:]
    sum_r, sum_i = np.empty(size, columns.dtype), np.empty(size, columns.dtype)
    for k in range(k_max):
        sum_r[:] = 0
        sum_i[:] = 0
        for other in range(0, k_max - 1, 2):  # two at once: half the traffic of the sums
            br, bi, cr, ci = (
                columns[0, other], columns[1, other], columns[0, other + 1], columns[1, other + 1]
            )  # fmt: skip
            hr, hi, er, ei = (
                real[k, other], imag[k, other], real[k, other + 1], imag[k, other + 1]
            )  # fmt: skip
            for p in range(size):
                sum_r[p] += hr * br[p] - hi * bi[p] + er * cr[p] - ei * ci[p]
                sum_i[p] += hr * bi[p] + hi * br[p] + er * ci[p] + ei * cr[p]
        if k_max % 2:
            br, bi = columns[0, k_max - 1], columns[1, k_max - 1]
            hr, hi = real[k, k_max - 1], imag[k, k_max - 1]
            for p in range(size):
                sum_r[p] += hr * br[p] - hi * bi[p]
                sum_i[p] += hr * bi[p] + hi * br[p]
        gr, gi = out[0, k], out[1, k]
        if first:
            for p in range(size):
                gr[p] = m[p] * sum_r[p]
                gi[p] = m[p] * sum_i[p]
        else:
            for p in range(size):
                gr[p] += m[p] * sum_r[p]
                gi[p] += m[p] * sum_i[p]


@compiled
def _moduli(x, fields, weights, shifts, masks, nside, first, out):
    """Moduli of the filtered fields into the rows from `first` on; their means into `out`."""
    orientations = weights.shape[0]
    width = nside + 2
    real, imag = np.empty(_BLOCK, x.dtype), np.empty(_BLOCK, x.dtype)
    for start in range(width + 1, x.shape[1] - width - 1, _BLOCK):
        size = min(_BLOCK, x.shape[1] - width - 1 - start)
        for g in range(orientations):
            for c in range(fields):
                _filter(x[c], weights[g], shifts, start, size, real, imag)
                row = x[first + g * fields + c, start : start + size]
                for p in range(size):
                    row[p] = np.sqrt(real[p] * real[p] + imag[p] * imag[p])
                for r in range(masks.shape[0]):
                    m = masks[r, start:]
                    total = x.dtype.type(0)
                    for p in range(size):
                        total += m[p] * row[p]
                    out[r, g, c] += total


@compiled
def _unmoduli(x, fields, weights, shifts, masks, nside, first, slope, gradient):
    """Adjoint of `_moduli`: adds to the first rows of `gradient`."""
    width = nside + 2
    real, imag = np.empty(_BLOCK, x.dtype), np.empty(_BLOCK, x.dtype)
    for start in range(width + 1, x.shape[1] - width - 1, _BLOCK):
        size = min(_BLOCK, x.shape[1] - width - 1 - start)
        for g in range(weights.shape[0]):
            for c in range(fields):
                _filter(x[c], weights[g], shifts, start, size, real, imag)
                row = x[first + g * fields + c, start:]
                up = gradient[first + g * fields + c, start:]
                for p in range(size):
                    total = up[p]
                    for r in range(masks.shape[0]):
                        total += slope[r, g, c] * masks[r, start + p]
                    ratio = total / row[p] if row[p] > 0 else x.dtype.type(0)
                    real[p] *= ratio
                    imag[p] *= ratio
                _unfilter(real, imag, weights[g], shifts, start, size, gradient[c])


@compiled
def _products(x, weights, shifts, masks, nside, out):
    """Gram matrices (regions, orientations, K, K) of all rows of `x`, filtered."""
    width, k_max = nside + 2, x.shape[0]
    columns = np.empty((2, k_max, _BLOCK), x.dtype)
    for start in range(width + 1, x.shape[1] - width - 1, _BLOCK):
        size = min(_BLOCK, x.shape[1] - width - 1 - start)
        for g in range(weights.shape[0]):
            for k in range(k_max):
                _filter(x[k], weights[g], shifts, start, size, columns[0, k], columns[1, k])
            for r in range(masks.shape[0]):
                _gram(columns, masks[r], start, size, out[r, g])


@compiled
def _unproducts(x, weights, shifts, masks, nside, slope, gradient):
    """Adjoint of `_products`: adds to `gradient` (K, cells)."""
    width, k_max = nside + 2, x.shape[0]
    columns = np.empty((2, k_max, _BLOCK), x.dtype)
    up = np.empty((2, k_max, _BLOCK), x.dtype)
    real, imag = np.empty(slope.shape, x.dtype), np.empty(slope.shape, x.dtype)
    for r in range(slope.shape[0]):
        for g in range(slope.shape[1]):
            _hermitian(slope[r, g], real[r, g], imag[r, g])
    for start in range(width + 1, x.shape[1] - width - 1, _BLOCK):
        size = min(_BLOCK, x.shape[1] - width - 1 - start)
        for g in range(weights.shape[0]):
            for k in range(k_max):
                _filter(x[k], weights[g], shifts, start, size, columns[0, k], columns[1, k])
            for r in range(masks.shape[0]):
                _ungram(columns, masks[r], start, size, real[r, g], imag[r, g], r == 0, up)
            for k in range(k_max):
                _unfilter(up[0, k], up[1, k], weights[g], shifts, start, size, gradient[k])


@compiled
def level_forward(
    x, fields, first, weights, shifts, halo, source, masks, nside, means, products
):  # fmt: skip
    """Statistics of one level.

    Args:
        x: (K, cells): fields and finer moduli in the first rows; this level's moduli are put
            into the rows from `first` on.
        fields: number of fields.
        first: row of the first new modulus.
        weights: (L, 2, 9, cells) filters.
        shifts: (9,) distances of neighbours.
        halo: cells of the frames.
        source: cells they repeat.
        masks: (R, cells) weights of the regions.
        nside: of the level.
        means: (R, L, fields) added to: means of the new moduli.
        products: (R, L, K, K) added to: Gram matrices.
    """
    _fill(x[:first], halo, source)
    _moduli(x, fields, weights, shifts, masks, nside, first, means)
    _fill(x[first:], halo, source)
    _products(x, weights, shifts, masks, nside, products)


@compiled
def level_backward(
    x, fields, first, weights, shifts, halo, source, masks, nside, means, products, gradient
):  # fmt: skip
    """Adjoint of `level_forward` at `x` as that left it: adds to `gradient` (K, cells)."""
    _unproducts(x, weights, shifts, masks, nside, products, gradient)
    _fold(gradient, halo, source)
    _unmoduli(x, fields, weights, shifts, masks, nside, first, means, gradient)
    _fold(gradient[:fields], halo, source)
