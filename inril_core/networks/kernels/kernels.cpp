// Forward and backward passes of small networks on one core or a few, for matrices that fit into its caches.
//
// The readable twins are inril_core/finetune/direct.py and inril_core/networks/direct.py; tests compare both. A matrix
// product is packed into panels of the width of a few vector registers; what follows it (bias, normalisation,
// activation) runs while its result is still in the cache. All matrices are of rows, float32. NaN and infinity go
// through everything, as in torch. Several threads share the members of an ensemble, the panels of a policy's products
// and the ranges of an optimizer's vectors; the numbers are those of one thread, to the bit.

#include <numeric>

#include "ensemble.h"
#include "gaussian.h"

namespace {

// The terms [parts, n], added in their order.
void sum_parts(int parts, int n, const float* terms, float* sum) {
    std::fill(sum, sum + n, 0.0f);
    for (int part = 0; part < parts; part++, terms += n)
        each(n, [&](int i, auto t) { store(sum + i, load<decltype(t)>(sum + i) + load<decltype(t)>(terms + i)); });
}

// work(from, to) for ranges of a vector that its size alone decides, whole registers but for the last one.
template <typename Work> void ranges(long size, Work work) {
    const long least = 8192, each = std::max(least, (size / MOST_TASKS / 64 + 1) * 64);
    team.load()->split(int((size + each - 1) / each), [&](int task, int) {
        const NoDenormals guard;
        work(task * each, std::min(size, (task + 1) * each));
    });
}

// Adam's, see `Adam` in networks/flat.py. Taken by value: what might lie among the numbers written is read at each one.
struct Moments {
    const float* gradient;
    float *first, *second;
    float beta1, beta2, eps, scale;

    float direction(long i) const {
        const float g = gradient[i], m = first[i] + (1.0f - beta1) * (g - first[i]);
        const float v = second[i] * beta2 + (1.0f - beta2) * g * g;
        first[i] = m, second[i] = v;
        return m / ((std::sqrt(v) + eps) * scale);
    }
};

void take(Moments moments, long from, long to, float* direction) {
    for (long i = from; i < to; i++) direction[i] = moments.direction(i);
}

void step(Moments moments, long from, long to, float rate, float* value, float* target, float tau) {
    for (long i = from; i < to; i++) {
        const float moved = value[i] - rate * moments.direction(i);
        value[i] = moved;
        if (target) target[i] += tau * (moved - target[i]);
    }
}

}  // namespace

extern "C" {

// Let kernels use up to ``threads``, the caller's among them (1 at first). Not while one runs.
void inril_use_threads(int threads) {
    Team* before = team.exchange(new Team(std::max(1, std::min(threads, MOST_THREADS))));
    before->end();
}

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
    Floats q(std::size_t(critics.members) * rows), slope(q.size());
    team.load()->split(critics.members, [&](int member, int worker) {
        float *own = q.data() + std::size_t(member) * rows, *of_q = slope.data() + std::size_t(member) * rows;
        critics.forward(weights, member, worker, worker, own);
        for (int r = 0; r < rows; r++) of_q[r] = (own[r] - targets[r]) * (2.0f / rows);
        critics.backward(weights, member, worker, worker, of_q, gradient, 0, nullptr);
    });
    double error = 0.0, value = 0.0;
    for (int member = 0; member < critics.members; member++) {
        for (int r = 0; r < rows; r++) {
            const float own = q[std::size_t(member) * rows + r], off = own - targets[r];
            error += double(off) * off, value += own;
        }
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
    Floats answers(std::size_t(drawn_n) * rows), log_prob(rows);
    gaussian.squash(noise, both + gaussian.inputs(), critics.inputs(), temperature ? log_prob.data() : nullptr);
    team.load()->split(drawn_n, [&](int i, int worker) {
        const int member = drawn ? int(drawn[i]) : i;
        critics.forward(critic_weights, member, worker, worker, answers.data() + std::size_t(i) * rows);
    });
    for (int i = 0; i < drawn_n; i++) {
        const float* q = answers.data() + std::size_t(i) * rows;
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
    const std::size_t size_of_slope = std::size_t(rows) * a;
    Floats slope(size_of_slope), of_log_std(size_of_slope), of_q(q.size(), 1.0f), slopes(members * size_of_slope);
    const auto backward = [&](int member, int slot, int worker) {
        critics.backward(critic_weights, member, slot, worker, of_q.data() + std::size_t(member) * rows, nullptr, width,
                         slopes.data() + member * size_of_slope);
    };
    team.load()->split(members, [&](int member, int worker) {
        const int slot = smallest ? member : worker;
        critics.forward(critic_weights, member, slot, worker, q.data() + std::size_t(member) * rows);
        // all rows of a mean count the same, by a factor that is known in the end
        if (!smallest) backward(member, slot, worker);
    });
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
    team.load()->split(smallest ? members : 0, [&](int member, int worker) {
        const float* own = q.data() + std::size_t(member) * rows;
        for (int r = 0; r < rows; r++) {
            int equal = 0;  // the gradient is shared by equal ones, as torch's amin does
            for (int other = 0; other < members; other++) equal += q[std::size_t(other) * rows + r] == value[r];
            of_q[std::size_t(member) * rows + r] = own[r] == value[r] ? 1.0f / equal : 0.0f;
        }
        backward(member, member, worker);
    });
    sum_parts(members, rows * a, slopes.data(), slope.data());
    Floats squashed(size_of_slope), wanted(size_of_slope), distances(size_of_slope);
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
    const Moments moments{gradient, first, second, beta1, beta2, eps, scale};
    ranges(size, [&](long from, long to) { take(moments, from, to, direction); });
}

// The same, and the step; target (null: none) follows by ``tau``.
void inril_step(long size, const float* gradient, float* first, float* second, float beta1, float beta2, float eps,
                float scale, float rate, float* value, float* target, float tau) {
    const Moments moments{gradient, first, second, beta1, beta2, eps, scale};
    ranges(size, [&](long from, long to) { step(moments, from, to, rate, value, target, tau); });
}

}  // extern "C"
