// Forward and backward passes of small networks on one core, for matrices that fit into its caches.
//
// The readable twins are inril_core/finetune/direct.py and inril_core/networks/direct.py; tests compare both. A matrix
// product is packed into panels of the width of a few vector registers; what follows it (bias, normalisation,
// activation) runs while its result is still in the cache. All matrices are of rows, float32. NaN and infinity go
// through everything, as in torch.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, MOST_ROWS = 8;
#elif defined(__AVX__)
constexpr int LANES = 8, MOST_ROWS = 6;
#elif defined(__aarch64__)
constexpr int LANES = 4, MOST_ROWS = 8;
#else
constexpr int LANES = 4, MOST_ROWS = 6;
#endif
constexpr int WIDTH = 2 * LANES;  // of a panel
constexpr int BLOCK = 16;         // rows whose statistics are taken together

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Four __attribute__((vector_size(16)));
typedef std::int32_t Whole __attribute__((vector_size(4 * LANES)));

template <typename T> inline T load(const float* from) {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}

template <typename T> inline void store(float* to, T value) { std::memcpy(to, &value, sizeof(T)); }

// work(i, T) for each i below n, where T is a register's worth of numbers from i on, or in the end a single one.
template <typename Work> inline void each(int n, Work work) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) work(i, Vec{});
    for (; i < n; i++) work(i, 0.0f);
}

inline float folded(Vec lanes) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)lanes);
#else
    float each[LANES];
    store(each, lanes);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) each[i] += each[i + half];
    return each[0];
#endif
}

// Sum of term(i, T) over i below n; several at once, because an addition waits for the one before.
template <typename Term> inline float total(int n, Term term) {
    Vec sum{}, other{};
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) sum += term(i, Vec{}), other += term(i + LANES, Vec{});
    for (; i + LANES <= n; i += LANES) sum += term(i, Vec{});
    float result = folded(sum + other);
    for (; i < n; i++) result += term(i, 0.0f);
    return result;
}

// exp, log and tanh of one number or of a register, after Cephes (Moshier), to a few units in the last place. NaN
// stays.
inline Whole whole(Vec x) { return __builtin_convertvector(x, Whole); }
inline std::int32_t whole(float x) { return std::int32_t(x); }
inline Vec real(Whole x) { return __builtin_convertvector(x, Vec); }
inline float real(std::int32_t x) { return float(x); }
template <typename To, typename From> inline To same_bits(From from) {
    To to;
    static_assert(sizeof(To) == sizeof(From), "");
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

template <typename T> inline T exponential(T x) {
    const T zero{}, half = zero + 0.5f;
    x = x < zero - 87.0f ? zero - 87.0f : x;
    x = x > zero + 88.0f ? zero + 88.0f : x;
    const auto power = whole(x * 1.44269504f + (x < zero ? -half : half));
    const T r = x - real(power) * 0.693147181f;
    T y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    return (y * r * r + r + 1.0f) * same_bits<T>((power + 127) << 23);
}

template <typename T> inline T logarithm(T x) {  // of a positive number
    const auto bits = same_bits<decltype(whole(x))>(x);
    const auto power = ((bits - 0x3f3504f3) >> 23);  // the rest lies between sqrt(1/2) and sqrt(2)
    const T r = same_bits<T>(bits - (power << 23)) - 1.0f;
    T y = r * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * r + 1.1676998740e-1f;
    y = y * r - 1.2420140846e-1f;
    y = y * r + 1.4249322787e-1f;
    y = y * r - 1.6668057665e-1f;
    y = y * r + 2.0000714765e-1f;
    y = y * r - 2.4999993993e-1f;
    y = y * r + 3.3333331174e-1f;
    const T result = y * r * r * r - r * r * 0.5f + r + real(power) * 0.693147181f;
    return x == x ? result : x;
}

template <typename T> inline T tangent(T x) {
    const T zero{}, size = x < zero ? -x : x, square = x * x;
    T y = square * -5.70498872745e-3f + 2.06390887954e-2f;
    y = y * square - 5.37397155531e-2f;
    y = y * square + 1.33314422036e-1f;
    y = y * square - 3.33332819422e-1f;
    const T near = y * square * x + x;
    const T far = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
    return size < zero + 0.625f ? near : x < zero ? -far : far;
}

// Memory that begins where a cache line does: a register's worth that lies across two is twice as slow.
template <typename T> struct OnLines {
    typedef T value_type;
    static constexpr std::align_val_t LINE{64};
    OnLines() = default;
    template <typename U> OnLines(const OnLines<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), LINE)); }
    void deallocate(T* at, std::size_t) { ::operator delete(at, LINE); }
    template <typename U> bool operator==(const OnLines<U>&) const { return true; }
    template <typename U> bool operator!=(const OnLines<U>&) const { return false; }
};
typedef std::vector<float, OnLines<float>> Floats;

// Denormal numbers are taken for 0 while one lives: Adam's moments of a unit that is never active decay to them, and a
// processor is a hundred times slower with them.
class NoDenormals {
  public:
#if defined(__x86_64__)
    NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
    ~NoDenormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
    NoDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
    }
    ~NoDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

  private:
    std::uint64_t before_;
#else
    NoDenormals() {}
    ~NoDenormals() {}
#endif
};

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

class Products {
  public:
    // c [m, n] = a [m, k] b [k, n] + bias [n] (null: none).
    void operator()(int m, int n, int k, Matrix a, Matrix b, float* c, std::ptrdiff_t c_row, const float* bias) {
        const std::size_t needed = std::size_t(k + 1) * WIDTH;
        if (panel_.size() < needed) panel_.resize(needed);
        const int blocks = (m + MOST_ROWS - 1) / MOST_ROWS;  // of nearly the same height: a single row is slow
        for (int j = 0; j < n; j += WIDTH) {
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
        }
    }

  private:
    Floats panel_;
};

inline float* grown(Floats& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
}

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

// Members of an ensemble of MLPs with LayerNorm (no affine) and ReLU, see networks/critics.py.
class Ensemble {
  public:
    Ensemble(int members, const std::vector<int>& sizes) : members(members), sizes_(sizes) {}

    const int members;
    int inputs() const { return sizes_.front(); }

    // Rows of observations and actions side by side, as the members get them.
    float* rows(int count, Matrix observations, int width) {
        float* to = grown(rows_, std::size_t(count) * inputs());
        for (int r = 0; r < count; r++)
            std::memcpy(to + r * inputs(), observations.at + r * observations.row, sizeof(float) * width);
        count_ = count;
        std::size_t size = 0;
        for (int layer = 0; layer < hidden(); layer++) size += 2 * lined(wide(layer)) + lined(1);
        grown(tape_, size * members);
        return to;
    }

    // Values [rows] of one member; ``slot``: where its tape is kept.
    void forward(const float* weights, int member, int slot, float* values) {
        const float* below = rows_.data();
        for (int layer = 0; layer < hidden(); layer++) {
            const int in = sizes_[layer], out = wide(layer);
            float *normal = tape(slot, layer), *active = normal + lined(out);
            product_(count_, out, in, {below, in}, {weight(weights, layer, member), out}, normal, out,
                     bias(weights, layer, member));
            normalise(out, normal, active, active + lined(out));
            below = active;
        }
        const int in = sizes_[hidden()];
        const float *w = weight(weights, hidden(), member), b = *bias(weights, hidden(), member);
        for (int r = 0; r < count_; r++) {
            const float* x = below + std::ptrdiff_t(r) * in;
            values[r] = b + total(in, [&](int i, auto t) { return load<decltype(t)>(x + i) * load<decltype(t)>(w + i); });
        }
    }

    // From the gradient [rows] of a member's values that of its weights (null: not wanted), and that of its inputs from
    // column ``first`` on, added to ``slope`` [rows, inputs - first] (null: not wanted).
    void backward(const float* weights, int member, int slot, const float* gradient, float* of_weights, int first,
                  float* slope) {
        const int top = hidden(), in_top = sizes_[top];
        int widest = 0;
        for (int size : sizes_) widest = std::max(widest, size);
        float* now = grown(one_, std::size_t(count_) * widest);
        float* next = grown(other_, std::size_t(count_) * widest);
        const float *w = weight(weights, top, member), *below = output(slot, top - 1);
        if (of_weights) {
            sum_rows(count_, in_top, below, [&](int r) { return gradient[r]; }, weight(of_weights, top, member));
            *bias(of_weights, top, member) = total(count_, [&](int i, auto t) { return load<decltype(t)>(gradient + i); });
        }
        for (int layer = top - 1; layer >= 0; layer--) {
            const int in = sizes_[layer], out = wide(layer);
            if (layer == top - 1)
                before_norm(slot, layer, now, [&](int r, int i, auto t) { return gradient[r] * load<decltype(t)>(w + i); });
            else
                before_norm(slot, layer, now, [&](int r, int i, auto t) {
                    return load<decltype(t)>(now + std::ptrdiff_t(r) * out + i);
                });
            if (of_weights) {
                const Matrix from{layer ? output(slot, layer - 1) : rows_.data(), in};
                product_(in, out, count_, from.turned(), {now, out}, weight(of_weights, layer, member), out, nullptr);
                sum_rows(count_, out, now, bias(of_weights, layer, member));
            }
            const Matrix turned = Matrix(weight(weights, layer, member), out).turned();
            if (layer) {
                product_(count_, in, out, {now, out}, turned, next, in, nullptr);
                std::swap(now, next);
            } else if (slope) {
                const int width = inputs() - first;
                product_(count_, width, out, {now, out}, turned.from_column(first), next, width, nullptr);
                for (int i = 0; i < count_ * width; i++) slope[i] += next[i];
            }
        }
    }

  private:
    std::vector<int> sizes_;
    int count_ = 0;  // of the rows at hand
    Floats rows_, tape_, one_, other_;
    Products product_;

    int hidden() const { return int(sizes_.size()) - 2; }
    int wide(int layer) const { return sizes_[layer + 1]; }

    template <typename T> T* weight(T* weights, int layer, int member) const {
        std::size_t before = 0;
        for (int l = 0; l < layer; l++) before += std::size_t(members) * (sizes_[l] + 1) * sizes_[l + 1];
        return weights + before + std::size_t(member) * sizes_[layer] * sizes_[layer + 1];
    }

    template <typename T> T* bias(T* weights, int layer, int member) const {
        return weight(weights, layer, members) + std::size_t(member) * sizes_[layer + 1];
    }

    // Normalised [rows, out], active [rows, out], and the inverse std [rows].
    float* tape(int slot, int layer) {
        std::size_t before = 0, each = 0;
        for (int l = 0; l < hidden(); l++) {
            if (l == layer) before = each;
            each += 2 * lined(wide(l)) + lined(1);
        }
        return tape_.data() + slot * each + before;
    }

    const float* output(int slot, int layer) { return tape(slot, layer) + lined(wide(layer)); }

    // Numbers that [rows, width] takes up, so that what follows begins a cache line.
    std::size_t lined(int width) const { return (std::size_t(count_) * width + 15) / 16 * 16; }

    // Statistics of some rows first, then what they are for: each row's own would be waited for.
    void normalise(int n, float* values, float* active, float* inverse_std) {
        float mean[BLOCK];
        for (int from = 0; from < count_; from += BLOCK) {
            const int rows = std::min(BLOCK, count_ - from);
            for (int r = 0; r < rows; r++) {
                const float* x = values + std::ptrdiff_t(from + r) * n;
                mean[r] = total(n, [&](int i, auto t) { return load<decltype(t)>(x + i); }) / n;
            }
            for (int r = 0; r < rows; r++) {
                const float* x = values + std::ptrdiff_t(from + r) * n;
                const float squares = total(n, [&](int i, auto t) {
                    const auto off = load<decltype(t)>(x + i) - mean[r];
                    return off * off;
                });
                inverse_std[from + r] = 1.0f / std::sqrt(squares / n + 1e-5f);
            }
            for (int r = 0; r < rows; r++) {
                float *x = values + std::ptrdiff_t(from + r) * n, *y = active + std::ptrdiff_t(from + r) * n;
                const float middle = mean[r], inverse = inverse_std[from + r];
                each(n, [&](int i, auto zero) {
                    const auto value = (load<decltype(zero)>(x + i) - middle) * inverse;
                    store(x + i, value);
                    store(y + i, value < zero ? zero : value);  // NaN stays
                });
            }
        }
    }

    // From of_output(row, column, T), the gradient of a layer's outputs, that of what was normalised.
    template <typename Source> void before_norm(int slot, int layer, float* gradient, Source of_output) {
        const int n = wide(layer);
        const float *normal = tape(slot, layer), *inverse = normal + 2 * lined(n);
        float mean[BLOCK], slope[BLOCK];
        for (int from = 0; from < count_; from += BLOCK) {
            const int rows = std::min(BLOCK, count_ - from);
            for (int r = 0; r < rows; r++) {
                float* g = gradient + std::ptrdiff_t(from + r) * n;
                const float* x = normal + std::ptrdiff_t(from + r) * n;
                mean[r] = total(n, [&](int i, auto zero) {
                    typedef decltype(zero) T;
                    const T through = load<T>(x + i) <= zero ? zero : of_output(from + r, i, zero);
                    store(g + i, through);
                    return through;
                }) / n;
            }
            for (int r = 0; r < rows; r++) {
                const float *g = gradient + std::ptrdiff_t(from + r) * n, *x = normal + std::ptrdiff_t(from + r) * n;
                slope[r] = total(n, [&](int i, auto t) {
                    return load<decltype(t)>(g + i) * load<decltype(t)>(x + i);
                }) / n;
            }
            for (int r = 0; r < rows; r++) {
                float* g = gradient + std::ptrdiff_t(from + r) * n;
                const float *x = normal + std::ptrdiff_t(from + r) * n, factor = inverse[from + r];
                const float m = mean[r], s = slope[r];
                each(n, [&](int i, auto t) {
                    typedef decltype(t) T;
                    store(g + i, factor * (load<T>(g + i) - m - load<T>(x + i) * s));
                });
            }
        }
    }
};

constexpr float HALF_LOG_2PI = 0.91893853320467274f, LOG_2 = 0.69314718055994531f;

// log(1 - tanh(raw)^2)
template <typename T> inline T log_slope(T raw) {
    const T x = -2.0f * raw;
    return 2.0f * (LOG_2 - raw - (x > T{} + 20.0f ? x : logarithm(exponential(x) + 1.0f)));
}

struct Shape {
    std::int32_t actions, tanh, fixed;
    float log_std, lowest, highest, mean_limit;  // mean_limit 0: none
};

// A Gaussian MLP, see policies/gaussian.py.
class Gaussian {
  public:
    Gaussian(const std::vector<int>& sizes, const Shape& shape) : shape(shape), sizes_(sizes) {}

    const Shape shape;
    int inputs() const { return sizes_.front(); }
    Floats mean, log_std;  // [rows, actions] of the last forward pass

    void forward(const float* weights, Matrix inputs, int rows) {
        inputs_ = inputs, count_ = rows;
        const int last = layers() - 1;
        if (int(outputs_.size()) < layers()) outputs_.resize(layers());
        const float* w = weights;
        Matrix below = inputs;
        for (int layer = 0; layer <= last; layer++) {
            const int in = sizes_[layer], out = sizes_[layer + 1];
            float* to = grown(outputs_[layer], std::size_t(rows) * out);
            product_(rows, out, in, below, Matrix(w, in).turned(), to, out, w + std::size_t(in) * out);
            if (layer < last) {
                each(rows * out, [&](int i, auto zero) {
                    const auto x = load<decltype(zero)>(to + i);
                    store(to + i, shape.tanh ? tangent(x) : x < zero ? zero : x);
                });
            }
            w += std::size_t(in + 1) * out;
            below = Matrix(to, out);
        }
        const int a = shape.actions, width = sizes_.back();
        grown(mean, std::size_t(rows) * a), grown(log_std, std::size_t(rows) * a);
        for (int r = 0; r < rows; r++) {
            const float* out = outputs_[last].data() + r * width;
            for (int i = 0; i < a; i++) {
                mean[r * a + i] = shape.mean_limit ? shape.mean_limit * tangent(out[i] / shape.mean_limit) : out[i];
                const float raw = shape.fixed ? shape.log_std : out[a + i];
                log_std[r * a + i] =
                    shape.fixed ? raw : raw < shape.lowest ? shape.lowest : raw > shape.highest ? shape.highest : raw;
            }
        }
    }

    // Gradient of the weights, from those of mean and log-std [rows, actions].
    void backward(const float* weights, const float* of_mean, const float* of_log_std, float* of_weights) {
        int widest = 0;
        for (int size : sizes_) widest = std::max(widest, size);
        float* now = grown(one_, std::size_t(count_) * widest);
        float* next = grown(other_, std::size_t(count_) * widest);
        const int a = shape.actions, width = sizes_.back(), last = layers() - 1;
        for (int r = 0; r < count_; r++) {
            for (int i = 0; i < a; i++) {
                const float m = mean[r * a + i] / (shape.mean_limit ? shape.mean_limit : 1.0f);
                now[r * width + i] = of_mean[r * a + i] * (shape.mean_limit ? 1.0f - m * m : 1.0f);
                if (shape.fixed) continue;
                const bool inside = outputs_[last][r * width + a + i] == log_std[r * a + i];
                // 0 times NaN is NaN, as in torch
                now[r * width + a + i] = of_log_std[r * a + i] * (inside ? 1.0f : 0.0f);
            }
        }
        std::size_t before = 0;
        for (int layer = 0; layer < last; layer++) before += std::size_t(sizes_[layer] + 1) * sizes_[layer + 1];
        for (int layer = last; layer >= 0; layer--) {
            const int in = sizes_[layer], out = sizes_[layer + 1];
            const Matrix below = layer ? Matrix(outputs_[layer - 1].data(), in) : inputs_;
            float* to = of_weights + before;
            product_(out, in, count_, Matrix(now, out).turned(), below, to, in, nullptr);
            sum_rows(count_, out, now, to + std::size_t(in) * out);
            if (layer == 0) break;
            product_(count_, in, out, {now, out}, {weights + before, in}, next, in, nullptr);
            const float* active = outputs_[layer - 1].data();
            each(count_ * in, [&](int i, auto zero) {
                typedef decltype(zero) T;
                const T g = load<T>(next + i), x = load<T>(active + i);
                store(next + i, shape.tanh ? g * (1.0f - x * x) : x <= zero ? zero : g);
            });
            std::swap(now, next);
            before -= std::size_t(sizes_[layer - 1] + 1) * in;
        }
    }

    // A sample tanh(mean + std * noise) for each row, into columns of ``to``, and its log-density (null: not wanted).
    void squash(const float* noise, float* to, std::ptrdiff_t to_row, float* log_prob) {
        const int a = shape.actions;
        float *squashed = grown(one_, std::size_t(count_) * a), *density = grown(other_, std::size_t(count_) * a);
        each(count_ * a, [&](int i, auto t) {
            typedef decltype(t) T;
            const T n = load<T>(noise + i), s = load<T>(log_std.data() + i);
            const T raw = load<T>(mean.data() + i) + exponential(s) * n;
            store(squashed + i, tangent(raw));
            if (log_prob) store(density + i, -0.5f * n * n - s - HALF_LOG_2PI - log_slope(raw));
        });
        for (int r = 0; r < count_; r++) {
            std::memcpy(to + r * to_row, squashed + r * a, sizeof(float) * a);
            if (!log_prob) continue;
            log_prob[r] = 0.0f;
            for (int i = 0; i < a; i++) log_prob[r] += density[r * a + i];
        }
    }

  private:
    std::vector<int> sizes_;
    int count_ = 0;
    Matrix inputs_{nullptr, 0};
    std::vector<Floats> outputs_;
    Floats one_, other_;
    Products product_;

    int layers() const { return int(sizes_.size()) - 1; }
};

}  // namespace

extern "C" {

void* inril_ensemble_new(int members, int count, const int* sizes) {
    return new Ensemble(members, std::vector<int>(sizes, sizes + count));
}

void inril_ensemble_free(void* ensemble) { delete static_cast<Ensemble*>(ensemble); }

void* inril_gaussian_new(int count, const int* sizes, const Shape* shape) {
    return new Gaussian(std::vector<int>(sizes, sizes + count), *shape);
}

void inril_gaussian_free(void* gaussian) { delete static_cast<Gaussian*>(gaussian); }

// c [m, n] = a b + bias, of any strides.
void inril_product(int m, int n, int k, const float* a, long a_row, long a_column, const float* b, long b_row,
                   long b_column, const float* bias, float* c) {
    Products()(m, n, k, {a, a_row, a_column}, {b, b_row, b_column}, c, n, bias);
}

// See `regression` in finetune/direct.py; found: the mean error and the mean value.
void inril_regression(void* handle, const float* weights, const float* observations, long observations_row,
                      const float* actions, long actions_row, const float* targets, int rows, int size,
                      float* gradient, double* found) {
    const NoDenormals guard;
    Ensemble& critics = *static_cast<Ensemble*>(handle);
    const int width = critics.inputs() - size;
    float* both = critics.rows(rows, {observations, observations_row}, width);
    for (int r = 0; r < rows; r++)
        std::memcpy(both + r * critics.inputs() + width, actions + r * actions_row, sizeof(float) * size);
    Floats q(rows);
    double error = 0.0, value = 0.0;
    for (int member = 0; member < critics.members; member++) {
        critics.forward(weights, member, 0, q.data());
        for (int r = 0; r < rows; r++) {
            const float off = q[r] - targets[r];
            error += double(off) * off, value += q[r];
            q[r] = off * (2.0f / rows);
        }
        critics.backward(weights, member, 0, q.data(), gradient, 0, nullptr);
    }
    found[0] = error / (double(rows) * critics.members), found[1] = value / (double(rows) * critics.members);
}

// |a|^2, <a, b> and |b|^2, in double precision.
void inril_products(long size, const float* a, const float* b, double* found) {
    double aa = 0.0, ab = 0.0, bb = 0.0;
    for (long i = 0; i < size; i++) {
        const double x = a[i], y = b[i];
        aa += x * x, ab += x * y, bb += y * y;
    }
    found[0] = aa, found[1] = ab, found[2] = bb;
}

// See `Rlpd.targets`: y, from the least value of the drawn critics (null: of all).
void inril_targets(void* policy, const float* weights, void* handle, const float* critic_weights,
                   const std::int64_t* drawn, int drawn_n, const float* following, long following_row,
                   const float* noise, int rows, const float* rewards, long rewards_row, const float* discounts,
                   long discounts_row, float temperature, float lowest, float highest, float* y) {
    const NoDenormals guard;
    Gaussian& gaussian = *static_cast<Gaussian*>(policy);
    Ensemble& critics = *static_cast<Ensemble*>(handle);
    gaussian.forward(weights, {following, following_row}, rows);
    float* both = critics.rows(rows, {following, following_row}, gaussian.inputs());
    Floats q(rows), log_prob(rows);
    gaussian.squash(noise, both + gaussian.inputs(), critics.inputs(), temperature ? log_prob.data() : nullptr);
    for (int i = 0; i < drawn_n; i++) {
        critics.forward(critic_weights, drawn ? int(drawn[i]) : i, 0, q.data());
        for (int r = 0; r < rows; r++) y[r] = i && !(q[r] < y[r]) && q[r] == q[r] ? y[r] : q[r];  // NaN wins
    }
    for (int r = 0; r < rows; r++) {
        const float value = temperature ? y[r] - temperature * log_prob[r] : y[r];
        const float target = rewards[r * rewards_row] + discounts[r * discounts_row] * value;
        y[r] = target < lowest ? lowest : target > highest ? highest : target;
    }
}

// See `Value.gradient` in finetune/direct.py; found: the loss, the mean value and the entropy.
void inril_value(void* policy, const float* weights, void* handle, const float* critic_weights,
                 const float* observations, long observations_row, const float* replayed, long replayed_row,
                 const float* noise, int rows, int smallest, int entropy, int behaviour, float temperature,
                 float weight, float* gradient, double* found) {
    const NoDenormals guard;
    Gaussian& gaussian = *static_cast<Gaussian*>(policy);
    Ensemble& critics = *static_cast<Ensemble*>(handle);
    const int a = gaussian.shape.actions, width = gaussian.inputs(), all = critics.inputs(), members = critics.members;
    gaussian.forward(weights, {observations, observations_row}, rows);
    float* both = critics.rows(rows, {observations, observations_row}, width);
    Floats log_prob(rows), q(std::size_t(members) * rows), value(rows);
    gaussian.squash(noise, both + width, all, log_prob.data());
    Floats slope(std::size_t(rows) * a, 0.0f), of_log_std(std::size_t(rows) * a), of_q(rows, 1.0f);
    for (int member = 0; member < members; member++) {
        const int slot = smallest ? member : 0;
        critics.forward(critic_weights, member, slot, q.data() + std::size_t(member) * rows);
        // all rows of a mean count the same, by a factor that is known in the end
        if (!smallest) critics.backward(critic_weights, member, slot, of_q.data(), nullptr, width, slope.data());
    }
    double q_sum = 0.0, size_sum = 0.0, entropy_sum = 0.0, loss = 0.0;
    for (int r = 0; r < rows; r++) {
        float v = q[r];
        for (int member = 1; member < members; member++) {
            const float other = q[std::size_t(member) * rows + r];
            v = !smallest ? v + other : v < other || v != v ? v : other;
        }
        value[r] = smallest ? v : v / members;
        q_sum += value[r], size_sum += std::fabs(value[r]), entropy_sum -= log_prob[r];
        loss += entropy ? double(temperature) * log_prob[r] - value[r] : -double(value[r]);
    }
    const float size = float(size_sum / rows), inverse = behaviour ? 1.0f / (size < 1e-3f ? 1e-3f : size) : 1.0f;
    const float per_row = inverse / rows, factor = -per_row / (smallest ? 1 : members);
    for (int member = 0; smallest && member < members; member++) {
        const float* own = q.data() + std::size_t(member) * rows;
        for (int r = 0; r < rows; r++) {
            int equal = 0;  // the gradient is shared by equal ones, as torch's amin does
            for (int other = 0; other < members; other++) equal += q[std::size_t(other) * rows + r] == value[r];
            of_q[r] = own[r] == value[r] ? 1.0f / equal : 0.0f;
        }
        critics.backward(critic_weights, member, member, of_q.data(), nullptr, width, slope.data());
    }
    Floats squashed(std::size_t(rows) * a), wanted(std::size_t(rows) * a), distances(std::size_t(rows) * a);
    copy_rows(rows, a, {both + width, all}, squashed.data());
    copy_rows(rows, a, {replayed, replayed_row}, wanted.data());
    each(rows * a, [&](int i, auto zero) {
        typedef decltype(zero) T;
        const T s = load<T>(squashed.data() + i), one = zero + 1.0f;
        T of_mean = load<T>(slope.data() + i) * factor * (1.0f - s * s);
        if (entropy) of_mean += s * (per_row * 2.0f * temperature);
        T of_spread = of_mean * exponential(load<T>(gaussian.log_std.data() + i)) * load<T>(noise + i);
        if (entropy) of_spread -= per_row * temperature;
        store(of_log_std.data() + i, of_spread);
        if (behaviour) {
            const T given = load<T>(wanted.data() + i), mode = tangent(load<T>(gaussian.mean.data() + i));
            const T off = mode - (given < -one ? -one : given > one ? one : given);
            store(distances.data() + i, off * off);
            of_mean += off * (weight * (2.0f / rows)) * (1.0f - mode * mode);
        }
        store(slope.data() + i, of_mean);
    });
    const double distance = std::accumulate(distances.begin(), distances.end(), 0.0);
    gaussian.backward(weights, slope.data(), of_log_std.data(), gradient);
    found[0] = loss / rows * inverse + (behaviour ? double(weight) * distance / rows : 0.0);
    found[1] = q_sum / rows, found[2] = entropy_sum / rows;
}

// See `imitation` in finetune/direct.py; ``kind``: 0 nll, 1 mse, 2 faithful. Returns the loss.
double inril_imitation(void* policy, const float* weights, const float* inputs, long inputs_row, const float* actions,
                       long actions_row, int rows, int kind, float limit, float* gradient) {
    const NoDenormals guard;
    Gaussian& gaussian = *static_cast<Gaussian*>(policy);
    const int a = gaussian.shape.actions;
    gaussian.forward(weights, {inputs, inputs_row}, rows);
    const std::size_t size = std::size_t(rows) * a;
    Floats of_mean(size, 0.0f), of_log_std(size, 0.0f), wanted(size), losses(size);
    copy_rows(rows, a, {actions, actions_row}, wanted.data());
    each(rows * a, [&](int i, auto zero) {
        typedef decltype(zero) T;
        const T mean = load<T>(gaussian.mean.data() + i), s = load<T>(gaussian.log_std.data() + i);
        T given = load<T>(wanted.data() + i), loss = zero;
        given = given < zero - limit ? zero - limit : given > zero + limit ? zero + limit : given;
        if (kind != 0) {
            const T mode = tangent(mean), off = mode - given;
            loss += off * off;
            store(of_mean.data() + i, off * (2.0f / rows) * (1.0f - mode * mode));
        }
        if (kind != 1) {
            const T raw = 0.5f * logarithm((1.0f + given) / (1.0f - given));
            const T inverse = exponential(-s), standard = (raw - mean) * inverse;
            loss -= -0.5f * standard * standard - s - HALF_LOG_2PI - log_slope(raw);
            store(of_log_std.data() + i, (1.0f - standard * standard) * (1.0f / rows));
            if (kind == 0) store(of_mean.data() + i, standard * inverse * (-1.0f / rows));
        }
        store(losses.data() + i, loss);
    });
    gaussian.backward(weights, of_mean.data(), of_log_std.data(), gradient);
    return std::accumulate(losses.begin(), losses.end(), 0.0) / rows;
}

// Take a gradient into Adam's moments, and its direction, see `Adam` in networks/flat.py.
void inril_direction(long size, const float* gradient, float* first, float* second, float beta1, float beta2,
                     float eps, float scale, float* direction) {
    const NoDenormals guard;
    const float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
    for (long i = 0; i < size; i++) {
        const float g = gradient[i], m = first[i] + rest1 * (g - first[i]), v = second[i] * beta2 + rest2 * g * g;
        first[i] = m, second[i] = v;
        direction[i] = m / ((std::sqrt(v) + eps) * scale);
    }
}

// The same, and the step; target (null: none) follows by ``tau``.
void inril_step(long size, const float* gradient, float* first, float* second, float beta1, float beta2, float eps,
                float scale, float rate, float* value, float* target, float tau) {
    const NoDenormals guard;
    const float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
    for (long i = 0; i < size; i++) {
        const float g = gradient[i], m = first[i] + rest1 * (g - first[i]), v = second[i] * beta2 + rest2 * g * g;
        first[i] = m, second[i] = v;
        const float moved = value[i] - rate * (m / ((std::sqrt(v) + eps) * scale));
        value[i] = moved;
        if (target) target[i] += tau * (moved - target[i]);
    }
}

}  // extern "C"
