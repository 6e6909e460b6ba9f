"""Compiled loops of the scattering covariance: one map at a time, one thread.

Maps are rows of padded faces (see `layout`), so that every inner loop runs over contiguous
memory. The columns A of a level, all that is filtered there, exist for a block of cells only:
they are made, multiplied into the Gram matrices and forgotten, and made again for the gradient.

Blocks are whole: the last one runs over cells that are nowhere, where all weights are zero. A
complex field has two rows, its real and imaginary part, and two columns: see `turns`.
"""

# Numba infers the types, and leaves out what is done only if an argument is not None.
# ruff: noqa: ANN001, ANN201, ANN202
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import numpy as np

from emulators.compiled import compiled, lanes, load, store

from .gram import BLOCK, gram, hermitian, ungram

__all__ = ["BLOCK", "backward", "coarsen", "moduli", "products", "refine"]

_SIDE_BY_SIDE = tuple(BLOCK * n for n in range(9))  # shifts, if each neighbour has a row


@compiled
def _scratch(rows, columns, like):
    """An array (rows, columns, block) that vectors do not straddle: they load faster."""
    size = rows * columns * BLOCK
    out = np.empty(size + BLOCK, like.dtype)
    first = -(out.ctypes.data // out.itemsize) % BLOCK
    return out[first : first + size].reshape(rows, columns, BLOCK)


@compiled
def _filter(x, start, shifts, weights, at, out, y=None, out_y=None):
    """Filter a block of `x` (cells,), and of `y`, which costs less.

    Args:
        x: (cells,).
        start: first cell of the block.
        shifts: distances of the nine neighbours.
        weights: (F, 9, cells), those of the block from `at` on.
        at: where they begin.
        out: (F, block).
        y: another row, or None.
        out_y: its block.
    """
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = shifts
    for i in range(0, BLOCK, lanes(x)):
        p = start + i
        x0, x1, x2 = load(x, p + s0), load(x, p + s1), load(x, p + s2)
        x3, x4, x5 = load(x, p + s3), load(x, p + s4), load(x, p + s5)
        x6, x7, x8 = load(x, p + s6), load(x, p + s7), load(x, p + s8)
        if y is not None:
            y0, y1, y2 = load(y, p + s0), load(y, p + s1), load(y, p + s2)
            y3, y4, y5 = load(y, p + s3), load(y, p + s4), load(y, p + s5)
            y6, y7, y8 = load(y, p + s6), load(y, p + s7), load(y, p + s8)
        for f in range(len(weights)):
            w, q = weights[f], at + i
            w0, w1, w2 = load(w, (0, q)), load(w, (1, q)), load(w, (2, q))
            w3, w4, w5 = load(w, (3, q)), load(w, (4, q)), load(w, (5, q))
            w6, w7, w8 = load(w, (6, q)), load(w, (7, q)), load(w, (8, q))
            z = w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4
            store(z + w5 * x5 + w6 * x6 + w7 * x7 + w8 * x8, out, (f, i))
            if y is not None:
                z = w0 * y0 + w1 * y1 + w2 * y2 + w3 * y3 + w4 * y4
                store(z + w5 * y5 + w6 * y6 + w7 * y7 + w8 * y8, out_y, (f, i))


@compiled
def _unfilter(up, start, shifts, weights, at, spread, gradient):
    """Adjoint of `_filter`: adds to `gradient` (cells,); `spread` (9, block) is scratch."""
    step = lanes(spread)
    for i in range(0, BLOCK, step):
        t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = t8 = spread.dtype.type(0) * load(up, (0, i))
        for f in range(len(weights)):
            u, w, q = load(up, (f, i)), weights[f], at + i
            t0, t1 = t0 + load(w, (0, q)) * u, t1 + load(w, (1, q)) * u
            t2, t3 = t2 + load(w, (2, q)) * u, t3 + load(w, (3, q)) * u
            t4, t5 = t4 + load(w, (4, q)) * u, t5 + load(w, (5, q)) * u
            t6, t7 = t6 + load(w, (6, q)) * u, t7 + load(w, (7, q)) * u
            t8 = t8 + load(w, (8, q)) * u
        store(t0, spread, (0, i))
        store(t1, spread, (1, i))
        store(t2, spread, (2, i))
        store(t3, spread, (3, i))
        store(t4, spread, (4, i))
        store(t5, spread, (5, i))
        store(t6, spread, (6, i))
        store(t7, spread, (7, i))
        store(t8, spread, (8, i))
    for n in range(9):
        for i in range(0, BLOCK, step):
            p = start + shifts[n] + i
            store(load(gradient, p) + load(spread, (n, i)), gradient, p)


@compiled
def _columns(x, start, shifts, weights, at, turns, fields, out):
    """A block of all rows of `x` (K, cells), filtered: (K, F, block). For `turns` see `moduli`."""
    first = 0
    if turns is not None:
        first = fields
        near = _scratch(2, 9, x)
        for k in range(0, fields, 2):
            _carry(x[k : k + 2], start, shifts, turns, near)
            a, b = near[0].reshape(-1), near[1].reshape(-1)
            _filter(a, 0, _SIDE_BY_SIDE, weights, at, out[k], b, out[k + 1])
            _both_ways(out[k], out[k + 1], 1)
    for k in range(first, len(x) - 1, 2):
        _filter(x[k], start, shifts, weights, at, out[k], x[k + 1], out[k + 1])
    if len(x) % 2:
        _filter(x[-1], start, shifts, weights, at, out[-1])


@compiled
def _uncolumns(up, start, shifts, weights, at, turns, spread, gradient):
    """Adjoint of `_columns` for rows of complex fields: adds to `gradient` and uses up `up`."""
    near = _scratch(2, 9, up)
    for k in range(0, len(up), 2):
        _both_ways(up[k], up[k + 1], -1)
        near[:] = 0
        _unfilter(up[k], 0, _SIDE_BY_SIDE, weights, at, spread, near[0].reshape(-1))
        _unfilter(up[k + 1], 0, _SIDE_BY_SIDE, weights, at, spread, near[1].reshape(-1))
        _uncarry(near, start, shifts, turns, gradient[k : k + 2])


@compiled
def _carry(z, start, shifts, turns, near):
    """The nine neighbours of a block of `z` (2, cells), turned: (2, 9, block)."""
    for n in range(9):
        for i in range(0, BLOCK, lanes(near)):
            p, q = start + i, start + shifts[n] + i
            cos, sin = load(turns, (0, n, p)), load(turns, (1, n, p))
            a, b = load(z, (0, q)), load(z, (1, q))
            store(cos * a - sin * b, near, (0, n, i))
            store(sin * a + cos * b, near, (1, n, i))


@compiled
def _uncarry(near, start, shifts, turns, gradient):
    """Adjoint of `_carry`: adds to `gradient` (2, cells)."""
    for n in range(9):
        for i in range(0, BLOCK, lanes(near)):
            p, q = start + i, start + shifts[n] + i
            cos, sin = load(turns, (0, n, p)), load(turns, (1, n, p))
            a, b = load(near, (0, n, i)), load(near, (1, n, i))
            store(load(gradient, (0, q)) + cos * a + sin * b, gradient, (0, q))
            store(load(gradient, (1, q)) + cos * b - sin * a, gradient, (1, q))


@compiled
def _both_ways(a, b, sign):
    """(a, b) to (a + i b, a - i b), or with sign -1 adjoint, in place; (F, block), Re and Im."""
    for f in range(0, len(a), 2):
        for i in range(BLOCK):
            a0, a1, b0, b1 = a[f, i], a[f + 1, i], b[f, i], b[f + 1, i]
            if sign > 0:
                a[f, i], a[f + 1, i], b[f, i], b[f + 1, i] = a0 - b1, a1 + b0, a0 + b1, a1 - b0
            else:
                a[f, i], a[f + 1, i], b[f, i], b[f + 1, i] = a0 + b0, a1 + b1, a1 - b1, b0 - a0


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
def _starts(nside):
    """The first cells of the blocks: all pixels are between the first and the last frame."""
    width = nside + 2
    return range(width + 1, 12 * width * width - width - 1, BLOCK)


@compiled
def coarsen(x, smoother, shifts, nside, out):
    """Smooth and average 2 x 2: (K, cells) to (K, coarse cells), frames left alone."""
    width, half = nside + 2, nside // 2
    smooth = np.zeros((1, x.shape[1]), x.dtype)
    for k in range(x.shape[0]):
        for start in _starts(nside):
            _filter(x[k], start, shifts, smoother, start, smooth[:, start:])
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                row, above = smooth[0, low:], smooth[0, low + width :]
                for b in range(half):
                    i = 2 * b
                    out[k, to + b] = (row[i] + row[i + 1] + above[i] + above[i + 1]) / 4


@compiled
def refine(gradient, smoother, shifts, nside, out):
    """Adjoint of `coarsen`: adds to `out` (K, cells)."""
    width, half = nside + 2, nside // 2
    fine = np.zeros((1, out.shape[1]), out.dtype)
    spread = np.empty((9, BLOCK), out.dtype)
    for k in range(gradient.shape[0]):
        for face in range(12):
            for a in range(half):
                low = (face * width + 2 * a + 1) * width + 1
                to = (face * (half + 2) + a + 1) * (half + 2) + 1
                row, above = fine[0, low:], fine[0, low + width :]
                for b in range(half):
                    i = 2 * b
                    row[i] = row[i + 1] = above[i] = above[i + 1] = gradient[k, to + b] / 4
        for start in _starts(nside):
            _unfilter(fine[:, start:], start, shifts, smoother, start, spread, out[k])


@compiled
def moduli(x, fields, first, weights, shifts, turns, halo, source, masks, nside, means):
    """The moduli of one level.

    Args:
        x: (K, cells): fields and finer moduli in the first rows; this level's moduli are put
            into the rows from `first` on.
        fields: number of fields.
        first: row of the first new modulus.
        weights: (2 L, 9, cells) filters, real and imaginary parts in turn.
        shifts: distances of the nine neighbours.
        turns: (2, 9, cells), cos and sin, if the first `fields` rows are complex fields, or None.
        halo: cells of the frames.
        source: cells they repeat.
        masks: (R, cells) weights of the regions.
        nside: of the level.
        means: (R, L, fields) added to: means of the new moduli.
    """
    _fill(x[:first], halo, source)
    columns = np.empty((fields, len(weights), BLOCK), x.dtype)
    for start in _starts(nside):
        _columns(x[:fields], start, shifts, weights, start, turns, fields, columns)
        for c in range(fields):
            for g in range(len(weights) // 2):
                row = x[first + g * fields + c, start:]
                real, imag = columns[c, 2 * g], columns[c, 2 * g + 1]
                for p in range(BLOCK):
                    row[p] = np.sqrt(real[p] * real[p] + imag[p] * imag[p])
                for r in range(len(masks)):
                    mask, total = masks[r, start:], x.dtype.type(0)
                    for p in range(BLOCK):
                        total += mask[p] * row[p]
                    means[r, g, c] += total
    _fill(x[first:], halo, source)


@compiled
def _unmoduli(x, fields, first, weights, shifts, turns, masks, nside, slope, gradient):
    """Adjoint of `moduli`: adds to the first rows of `gradient`, and uses up the others."""
    columns = np.empty((fields, len(weights), BLOCK), x.dtype)
    spread = np.empty((9, BLOCK), x.dtype)
    for start in _starts(nside):
        _columns(x[:fields], start, shifts, weights, start, turns, fields, columns)
        for c in range(fields):
            for g in range(len(weights) // 2):
                row = x[first + g * fields + c, start:]
                up = gradient[first + g * fields + c, start:]
                for r in range(len(masks)):
                    mask = masks[r, start:]
                    for p in range(BLOCK):
                        up[p] += slope[r, g, c] * mask[p]
                real, imag = columns[c, 2 * g], columns[c, 2 * g + 1]
                for p in range(BLOCK):
                    ratio = up[p] / row[p] if row[p] > 0 else x.dtype.type(0)
                    real[p] *= ratio
                    imag[p] *= ratio
        if turns is not None:
            _uncolumns(columns, start, shifts, weights, start, turns, spread, gradient)
        else:
            for c in range(fields):
                _unfilter(columns[c], start, shifts, weights, start, spread, gradient[c])


@compiled
def products(x, fields, weights, shifts, turns, masks, nside, out):
    """Add the Gram matrices (R, L, K, K) of one level: all rows of `x` (K, cells), filtered."""
    columns = _scratch(len(x), len(weights), x)
    sums = np.zeros((*out.shape, lanes(x)), x.dtype)
    for start in _starts(nside):
        _columns(x, start, shifts, weights, start, turns, fields, columns)
        for r in range(out.shape[0]):
            for g in range(out.shape[1]):
                gram(columns, g, masks[r], start, sums[r, g])
    for r in range(out.shape[0]):
        for g in range(out.shape[1]):
            for k in range(len(x)):
                for other in range(len(x)):
                    out[r, g, k, other] += sums[r, g, k, other].sum()


@compiled
def _unproducts(x, fields, weights, shifts, turns, masks, nside, slope, gradient):
    """Adjoint of `products`: adds to `gradient` (K, cells)."""
    columns = _scratch(len(x), len(weights), x)
    up = _scratch(len(x), len(weights), x)
    near = _scratch(len(weights), 9, x)  # weights that are read 2 K times
    spread = np.empty((9, BLOCK), x.dtype)
    real, imag = np.empty(slope.shape, x.dtype), np.empty(slope.shape, x.dtype)
    for r in range(slope.shape[0]):
        for g in range(slope.shape[1]):
            hermitian(slope[r, g], real[r, g], imag[r, g])
    for start in _starts(nside):
        up[:] = 0
        for f in range(len(weights)):
            for n in range(9):
                for i in range(0, BLOCK, lanes(x)):
                    store(load(weights, (f, n, start + i)), near, (f, n, i))
        _columns(x, start, shifts, near, 0, turns, fields, columns)
        for r in range(slope.shape[0]):
            for g in range(slope.shape[1]):
                ungram(columns, g, masks[r], start, real[r, g], imag[r, g], up)
        first = 0
        if turns is not None:
            first = fields
            _uncolumns(up[:fields], start, shifts, near, 0, turns, spread, gradient)
        for k in range(first, len(x)):
            _unfilter(up[k], start, shifts, near, 0, spread, gradient[k])


@compiled
def backward(
    x, fields, first, weights, shifts, turns, halo, source, masks, nside, means, grams, gradient
):  # fmt: skip
    """Adjoint of `moduli` and `products` at `x`: adds to `gradient` (K, cells)."""
    _unproducts(x, fields, weights, shifts, turns, masks, nside, grams, gradient)
    _fold(gradient, halo, source)
    _unmoduli(x, fields, first, weights, shifts, turns, masks, nside, means, gradient)
    _fold(gradient[:fields], halo, source)
