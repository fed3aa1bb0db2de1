// Registers of numbers, what is done with them, and the memory they are read from.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
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

}  // namespace
