#pragma once

#include <array>

#include "products.h"
#include "threads.h"

namespace {

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
        grown(tape_, size * std::max(members, team.load()->threads));
        return to;
    }

    // Values [rows] of one member; ``slot``: where its tape is kept, a member's or a worker's (see threads.h).
    void forward(const float* weights, int member, int slot, int worker, float* values) {
        const float* below = rows_.data();
        for (int layer = 0; layer < hidden(); layer++) {
            const int in = sizes_[layer], out = wide(layer);
            float *normal = tape(slot, layer), *active = normal + lined(out);
            workspaces_[worker].product(count_, out, in, {below, in}, {weight(weights, layer, member), out}, normal,
                                        out, bias(weights, layer, member));
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
    // column ``first`` on, ``slope`` [rows, inputs - first] (null: not wanted).
    void backward(const float* weights, int member, int slot, int worker, const float* gradient, float* of_weights,
                  int first, float* slope) {
        const int top = hidden(), in_top = sizes_[top];
        int widest = 0;
        for (int size : sizes_) widest = std::max(widest, size);
        auto& [one, other, product] = workspaces_[worker];
        float* now = grown(one, std::size_t(count_) * widest);
        float* next = grown(other, std::size_t(count_) * widest);
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
                product(in, out, count_, from.turned(), {now, out}, weight(of_weights, layer, member), out, nullptr);
                sum_rows(count_, out, now, bias(of_weights, layer, member));
            }
            const Matrix turned = Matrix(weight(weights, layer, member), out).turned();
            if (layer) {
                product(count_, in, out, {now, out}, turned, next, in, nullptr);
                std::swap(now, next);
            } else if (slope) {
                const int width = inputs() - first;
                product(count_, width, out, {now, out}, turned.from_column(first), slope, width, nullptr);
            }
        }
    }

  private:
    std::vector<int> sizes_;
    int count_ = 0;  // of the rows at hand
    Floats rows_, tape_;
    struct Workspace {
        Floats one, other;
        Products product;
    };
    std::array<Workspace, MOST_THREADS> workspaces_;

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

}  // namespace
