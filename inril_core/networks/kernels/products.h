// Matrix products, and sums over rows.

#pragma once

#include <algorithm>

#include "registers.h"

namespace {

// A matrix: element (i, j) is at[i * row + j * column].
struct Matrix {
    const float* at;
    std::ptrdiff_t row, column;
    Matrix(const float* at, std::ptrdiff_t row, std::ptrdiff_t column = 1) : at(at), row(row), column(column) {}
    Matrix turned() const { return {at, column, row}; }
    Matrix from_column(int j) const { return {at + j * column, row, column}; }
};

// 4 x 4 numbers, turned.
inline void turn(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row) {
    const Four a = load<Four>(from), b = load<Four>(from + from_row), c = load<Four>(from + 2 * from_row),
               d = load<Four>(from + 3 * from_row);
    const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Four ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store(to, __builtin_shufflevector(ab, cd, 0, 1, 4, 5));
    store(to + to_row, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
    store(to + 2 * to_row, __builtin_shufflevector(ef, gh, 0, 1, 4, 5));
    store(to + 3 * to_row, __builtin_shufflevector(ef, gh, 2, 3, 6, 7));
}

// Rows 0..k of the first ``width`` columns of b, ``padded`` numbers each, behind a row of the bias (or zeros).
void pack(int k, Matrix b, const float* bias, int width, int padded, float* panel) {
    std::fill(panel, panel + padded, 0.0f);
    if (bias) std::copy(bias, bias + width, panel);
    panel += padded;
    if (width < padded) std::fill(panel, panel + std::ptrdiff_t(k) * padded, 0.0f);
    if (b.column == 1) {
        if (width == WIDTH) {
            for (int i = 0; i < k; i++, panel += WIDTH)
                each(WIDTH, [&](int j, auto t) { store(panel + j, load<decltype(t)>(b.at + i * b.row + j)); });
            return;
        }
        for (int i = 0; i < k; i++) std::memcpy(panel + i * padded, b.at + i * b.row, sizeof(float) * width);
        return;
    }
    const int whole_i = b.row == 1 ? k / 4 * 4 : 0, whole_j = b.row == 1 ? width / 4 * 4 : 0;
    for (int j = 0; j < whole_j; j += 4)
        for (int i = 0; i < whole_i; i += 4) turn(b.at + j * b.column + i, b.column, panel + i * padded + j, padded);
    for (int j = 0; j < width; j++)
        for (int i = j < whole_j ? whole_i : 0; i < k; i++) panel[i * padded + j] = b.at[i * b.row + j * b.column];
}

// ROWS rows of a times one panel of VECTORS registers.
template <int ROWS, int VECTORS>
void block(int k, Matrix a, const float* panel, float* c, std::ptrdiff_t c_row, int width) {
    Vec sum[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sum[r][v] = load<Vec>(panel + v * LANES);
    panel += VECTORS * LANES;
    const float* at = a.at;
    for (int i = 0; i < k; i++, panel += VECTORS * LANES, at += a.column) {
        Vec b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = load<Vec>(panel + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const float factor = at[r * a.row];
            for (int v = 0; v < VECTORS; v++) sum[r][v] += factor * b[v];
        }
    }
    for (int r = 0; r < ROWS; r++) {
        if (width == VECTORS * LANES)
            for (int v = 0; v < VECTORS; v++) store(c + r * c_row + v * LANES, sum[r][v]);
        else
            std::memcpy(c + r * c_row, sum[r], sizeof(float) * width);
    }
}

template <int VECTORS>
void rows_of(int rows, int k, Matrix a, const float* panel, float* c, std::ptrdiff_t c_row, int width) {
    switch (rows) {
        case 1: return block<1, VECTORS>(k, a, panel, c, c_row, width);
        case 2: return block<2, VECTORS>(k, a, panel, c, c_row, width);
        case 3: return block<3, VECTORS>(k, a, panel, c, c_row, width);
        case 4: return block<4, VECTORS>(k, a, panel, c, c_row, width);
        case 5: return block<5, VECTORS>(k, a, panel, c, c_row, width);
        case 6: return block<6, VECTORS>(k, a, panel, c, c_row, width);
        case 7: return block<7, VECTORS>(k, a, panel, c, c_row, width);
        default: return block<8, VECTORS>(k, a, panel, c, c_row, width);
    }
}

inline float* grown(Floats& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
}

inline int panels(int n) { return (n + WIDTH - 1) / WIDTH; }

class Products {
  public:
    // c [m, n] = a [m, k] b [k, n] + bias [n] (null: none).
    void operator()(int m, int n, int k, Matrix a, Matrix b, float* c, std::ptrdiff_t c_row, const float* bias) {
        for (int j = 0; j < n; j += WIDTH) columns(j, m, n, k, a, b, c, c_row, bias);
    }

    // The same, of the columns from ``j`` on that one panel covers; returns how many.
    int columns(int j, int m, int n, int k, Matrix a, Matrix b, float* c, std::ptrdiff_t c_row, const float* bias) {
        grown(panel_, std::size_t(k + 1) * WIDTH);
        const int blocks = (m + MOST_ROWS - 1) / MOST_ROWS;  // of nearly the same height: a single row is slow
        const int width = std::min(WIDTH, n - j);
        const bool narrow = width <= LANES;
        pack(k, b.from_column(j), bias ? bias + j : nullptr, width, narrow ? LANES : WIDTH, panel_.data());
        for (int at = 0, left = blocks; at < m; left--) {
            const int rows = (m - at + left - 1) / left;
            const Matrix part{a.at + at * a.row, a.row, a.column};
            float* to = c + at * c_row + j;
            if (narrow) rows_of<1>(rows, k, part, panel_.data(), to, c_row, width);
            else rows_of<2>(rows, k, part, panel_.data(), to, c_row, width);
            at += rows;
        }
        return width;
    }

  private:
    Floats panel_;
};

// Columns of a matrix, without gaps.
void copy_rows(int rows, int n, Matrix from, float* to) {
    for (int r = 0; r < rows; r++) std::memcpy(to + r * n, from.at + r * from.row, sizeof(float) * n);
}

// Sum of all rows [n], each times factor(row).
template <typename Factor> void sum_rows(int rows, int n, const float* from, Factor factor, float* to) {
    std::fill(to, to + n, 0.0f);
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *x = from + std::ptrdiff_t(r) * n, a = factor(r), b = factor(r + 1), c = factor(r + 2),
                    d = factor(r + 3);
        each(n, [&](int i, auto t) {
            typedef decltype(t) T;
            store(to + i, load<T>(to + i) + ((a * load<T>(x + i) + b * load<T>(x + n + i)) +
                                             (c * load<T>(x + 2 * n + i) + d * load<T>(x + 3 * n + i))));
        });
    }
    for (; r < rows; r++)
        for (int i = 0; i < n; i++) to[i] += factor(r) * from[std::ptrdiff_t(r) * n + i];
}

void sum_rows(int rows, int n, const float* from, float* to) {
    sum_rows(rows, n, from, [](int) { return 1.0f; }, to);
}

}  // namespace
