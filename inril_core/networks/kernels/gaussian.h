#pragma once

#include <array>

#include "products.h"
#include "threads.h"

namespace {

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
            team.load()->split(panels(out), [&](int panel, int worker) {
                const int j = panel * WIDTH;
                const float* bias = w + std::size_t(in) * out;
                const int width = products_[worker].columns(j, rows, out, in, below, Matrix(w, in).turned(), to, out, bias);
                for (int r = 0; layer < last && r < rows; r++) {
                    float* at = to + std::ptrdiff_t(r) * out + j;
                    each(width, [&](int i, auto zero) {
                        const auto x = load<decltype(zero)>(at + i);
                        store(at + i, shape.tanh ? tangent(x) : x < zero ? zero : x);
                    });
                }
            });
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
            const int wide = panels(in);  // first those of the weights, then those of the inputs, and at last the bias
            team.load()->split(layer ? 2 * wide + 1 : wide + 1, [&](int task, int worker) {
                Products& product = products_[worker];
                if (task < wide) {
                    product.columns(task * WIDTH, out, in, count_, Matrix(now, out).turned(), below, to, in, nullptr);
                } else if (layer && task < 2 * wide) {
                    const int j = (task - wide) * WIDTH;
                    const int width = product.columns(j, count_, in, out, {now, out}, {weights + before, in}, next, in, nullptr);
                    through(j, width, in, outputs_[layer - 1].data(), next);
                } else {
                    sum_rows(count_, out, now, to + std::size_t(in) * out);
                }
            });
            if (layer == 0) break;
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
    std::array<Products, MOST_THREADS> products_;

    int layers() const { return int(sizes_.size()) - 1; }

    // From the gradient of what an activation gave, ``active`` [rows, n], that of what it got; of some columns.
    void through(int j, int width, int n, const float* active, float* gradient) const {
        for (int r = 0; r < count_; r++) {
            const float* y = active + std::ptrdiff_t(r) * n + j;
            float* g = gradient + std::ptrdiff_t(r) * n + j;
            each(width, [&](int i, auto zero) {
                typedef decltype(zero) T;
                const T of_output = load<T>(g + i), x = load<T>(y + i);
                store(g + i, shape.tanh ? of_output * (1.0f - x * x) : x <= zero ? zero : of_output);
            });
        }
    }
};

}  // namespace
