// The forward pass of a BERT-shaped cross-encoder, over chunks of pairs that stay in the L2 cache.
//
// One source, compiled once for each path: -DPATH_AVX2 and -DPATH_AVX512 in float32, -DPATH_AMX in
// bfloat16, -DPATH_AMX_INT8 in int8 with attention in bfloat16. Vector arithmetic is the compiler's
// own (GCC and clang vector types); tiles, and what moves values across lanes, are intrinsics. A row's
// result never depends on which rows stand beside it, so a pair's logits do not depend on its batch.
// Sizes are padded with zeros to whole vectors and tiles by the caller: padding stays zero all the
// way. Nothing here throws, prints, starts a thread or keeps anything between calls.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef PATH_AMX_INT8
#define PATH_AMX
#endif

namespace {
#ifdef PATH_AVX2
constexpr int W = 8, BLOCK = 6;  // 12 of 16 registers add up
#else
constexpr int W = 16, BLOCK = 12;  // 24 of 32 registers add up
#endif
constexpr long PANEL = 2 * W;    // columns of one packed panel
constexpr long CHUNK = 256;      // rows a chunk: its activations fit 2 MiB of L2
typedef float vf __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef uint16_t bf16;

enum { OK, BAD_LENGTH, BAD_ID, BAD_TYPE, NO_MEMORY };

inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
inline void put(float* p, vf v) { *reinterpret_cast<vf*>(p) = v; }
inline vf all(float x) { return x - vf{}; }
#ifdef PATH_AVX2
inline float sum(vf v) {
  float t = 0;
  for (int i = 0; i < W; i++) t += v[i];
  return t;
}
inline float largest(vf v) {
  float m = v[0];
  for (int i = 1; i < W; i++) m = v[i] > m ? v[i] : m;
  return m;
}
inline vf inverse(vf x) { return 1.0f / x; }
#else
inline float sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
inline float largest(vf v) { return _mm512_reduce_max_ps((__m512)v); }
// 1 / x to a rounding error, in a quarter of a division's time; x is at least 1, or NaN.
inline vf inverse(vf x) {
  const vf guess = (vf)_mm512_rcp14_ps((__m512)x);
  return guess * (2.0f - x * guess);
}
// Exchanges rows and columns of 16 by 16 values of 32 bits: blocks of 1, 2, 4 and 8 in turn.
inline void transpose(__m512i* r) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 4
  for (int s = 1; s < 16; s *= 2) {
    const __m512i step = _mm512_set1_epi32(s), second = _mm512_set1_epi32(16);
    const __mmask16 odd = _mm512_test_epi32_mask(lane, step);
    const __m512i low = _mm512_mask_add_epi32(lane, odd, lane, _mm512_sub_epi32(second, step));
    const __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, step), odd, lane, second);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      if (i & s) continue;
      const __m512i a = r[i], b = r[i + s];
      r[i] = _mm512_permutex2var_epi32(a, low, b);
      r[i + s] = _mm512_permutex2var_epi32(a, high, b);
    }
  }
}
// Loads 64 bytes of each of the rows t to t + 16 of n, zeros after the last, as columns.
template <class T>
inline void load_columns(const T* rows, long ld, long t, long n, __m512i* r) {
  for (long j = 0; j < 16; j++)
    r[j] = t + j < n ? _mm512_loadu_si512(rows + (t + j) * ld) : _mm512_setzero_si512();
  transpose(r);
}
#endif
// The first n values, and 0 after.
inline vf first(vf v, long n) {
  for (long i = n; i < W; i++) v[i] = 0;
  return v;
}

// e to the x; NaN stays NaN. The shift by 1.5 * 2^23 rounds to an integer in the low bits.
inline vf exponential(vf x) {
  x = x < -87.0f ? all(-87.0f) : x;
  x = x > 88.0f ? all(88.0f) : x;
  const vf shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  vf p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
#ifdef PATH_AVX2
  return x == x ? (vf)(((vi)shifted << 23) + (vi)p) : x;
#else
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#endif
}

// Abramowitz and Stegun 7.1.26: erf to 1.5e-7.
inline vf gelu(vf x) {
  const vf z = (x < 0.0f ? -x : x) * 0.70710678f, t = inverse(1.0f + 0.3275911f * z);
  vf p = all(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const vf tail = 0.5f * p * t * exponential(-z * z);  // the part of a normal beyond |x|
  return x * (x < 0.0f ? tail : 1.0f - tail);
}
// GELU to 2e-4, for results that are rounded to 8 bits anyway: the part of a normal below x, as an
// odd polynomial that is 1/2 at 4 (the smallest largest error of its degree, by linear programming).
inline vf gelu_to_8_bits(vf x) {
  vf z = x < -4.0f ? all(-4.0f) : x;
  z = z > 4.0f ? all(4.0f) : z;
  const vf t = z * z;
  vf p = all(2.25880719e-8f);
  p = p * t - 1.5888188e-6f;
  p = p * t + 4.77636968e-5f;
  p = p * t - 8.12185463e-4f;
  p = p * t + 8.7636821e-3f;
  p = p * t - 6.45544082e-2f;
  p = p * t + 3.97870302e-1f;
  return x * (p * z + 0.5f);
}
template <bool TO_8_BITS>
inline vf activated(vf x, int kind) {
  switch (kind) {
    case 1: return TO_8_BITS ? gelu_to_8_bits(x) : gelu(x);
    case 2: return x * inverse(1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
    case 3: return x < 0.0f ? vf{} : x;
    case 4: return x * inverse(1.0f + exponential(-x));
    case 5: return 1.0f - 2.0f * inverse(1.0f + exponential(2.0f * x));
  }
  return x;
}

// ---- products: C (rows, PANEL) = A (rows, k) times one packed panel (k, PANEL) ----

// How a value is made an integer: factor * value + zero.
struct Steps { float factor, zero; };

struct Float32 {
  typedef float T;
  static constexpr bool IS_FLOAT = true, IS_SCALED = false;
  static constexpr long ROWS = BLOCK;
  static long place(long k, long n) { return k * PANEL + n; }
  static void store(T* to, vf v, Steps = {}) { put(to, v); }
  static T value(float x) { return x; }
  static vf loaded(const float* c) { return load(c); }
  template <int R>
  static void block(const T* a, long lda, const T* b, long k, float* c) {
    vf low[R] = {}, high[R] = {};
    for (long i = 0; i < k; i++) {
      const vf b0 = load(b + i * PANEL), b1 = load(b + i * PANEL + W);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        low[r] += a[r * lda + i] * b0;
        high[r] += a[r * lda + i] * b1;
      }
    }
    for (int r = 0; r < R; r++) put(c + r * PANEL, low[r]), put(c + r * PANEL + W, high[r]);
  }
  template <int R>
  static void some(long rows, const T* a, long lda, const T* b, long k, float* c) {
    if (rows == R) return block<R>(a, lda, b, k, c);
    if constexpr (R > 1) some<R - 1>(rows, a, lda, b, k, c);
  }
  static void multiply(long rows, const T* a, long lda, const T* b, long k, float* c) {
    some<BLOCK>(rows, a, lda, b, k, c);
  }
  // Packs what attention multiplies with: n rows of d values, to (d, padded) and (padded, d).
  static void pack_keys(const T* rows, long ld, long n, long padded, long d, T* to) {
#ifdef PATH_AVX2
    memset(to, 0, padded * d * sizeof(T));
    for (long t = 0; t < n; t++)
      for (long i = 0; i < d; i++) to[t / PANEL * PANEL * d + place(i, t % PANEL)] = rows[t * ld + i];
#else
    for (long t = 0; t < padded; t += 16)
      for (long i = 0; i < d; i += 16) {
        __m512i r[16];
        load_columns(rows + i, ld, t, n, r);
        for (long j = 0; j < 16; j++)
          _mm512_storeu_si512(to + t / PANEL * PANEL * d + place(i + j, t % PANEL), r[j]);
      }
#endif
  }
  static void pack_values(const T* rows, long ld, long n, long padded, long d, T* to) {
    for (long i = 0; i < d; i += PANEL)
      for (long t = 0; t < padded; t++, to += PANEL) {
        put(to, t < n ? load(rows + t * ld + i) : vf{});
        put(to + W, t < n ? load(rows + t * ld + i + W) : vf{});
      }
  }
};

#ifdef PATH_AMX
// The tiles 0 to 3 are sums of 16 by 16, 4 and 5 are of A, 6 and 7 of B. C (up to 32 rows, PANEL) is
// written for 16 rows or 32. Rows of A up to the next 16 are read, and their sums not used.
template <class Sum>
inline void multiply_tiles(bool two, const uint8_t* a, long stride, const uint8_t* b, long n_tiles,
                           void* c, Sum sum) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long i = 0; i < n_tiles; i++, a += 64, b += 2048) {
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + 1024, 64);
    if (two) _tile_loadd(5, a + 16 * stride, stride);
    sum(two);
  }
  float* to = (float*)c;
  _tile_stored(0, to, 128);
  _tile_stored(1, to + 16, 128);
  if (!two) return;
  _tile_stored(2, to + 16 * PANEL, 128);
  _tile_stored(3, to + 16 * PANEL + 16, 128);
}

// A panel is tiles of 32 by 16, two beside each other; a tile's row has pairs of neighbours in k.
struct BFloat16 {
  typedef bf16 T;
  static constexpr bool IS_FLOAT = false, IS_SCALED = false;
  static constexpr long ROWS = 32;
  static long place(long k, long n) {
    return (k / 32 * 2 + n / 16) * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2;
  }
  static void store(T* to, vf v, Steps = {}) {
    const __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    memcpy(to, &h, 32);
  }
  static T value(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (u >> 16) | 64;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
  }
  static vf loaded(const float* c) { return load(c); }
  static void multiply(long rows, const T* a, long lda, const T* b, long k, float* c) {
    multiply_tiles(rows > 16, (const uint8_t*)a, lda * 2, (const uint8_t*)b, k / 32, c, [](bool two) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (!two) return;
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    });
  }
  // Two neighbours in d are one value of 32 bits, so that rows become columns as in float32.
  static void pack_keys(const T* rows, long ld, long n, long padded, long d, T* to) {
    for (long t = 0; t < padded; t += 16)
      for (long i = 0; i < d; i += 32) {
        __m512i r[16];
        load_columns(rows + i, ld, t, n, r);
        T* tile = to + t / PANEL * PANEL * d + place(i, t % PANEL);
        for (long j = 0; j < 16; j++) _mm512_storeu_si512(tile + j * 32, r[j]);
      }
  }
  static void pack_values(const T* rows, long ld, long n, long padded, long d, T* to) {
    const auto wide = [&](long t, long i) {
      if (t >= n) return _mm512_setzero_si512();
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(rows + t * ld + i)));
    };
    for (long i = 0; i < d; i += 16)
      for (long t = 0; t < padded; t += 2)
        _mm512_storeu_si512(to + i / PANEL * PANEL * padded + place(t, i % PANEL),
                            _mm512_or_si512(wide(t, i), _mm512_slli_epi32(wide(t + 1, i), 16)));
  }
};
#endif

#ifdef PATH_AMX_INT8
// A panel is tiles of 64 by 16, two beside each other; a tile's row has fours of neighbours in k.
// Results are whole numbers, to be multiplied by a scale for each column.
template <bool UNSIGNED>
struct Int8 {
  typedef int8_t T;  // what is unsigned is stored as its bits
  static constexpr bool IS_FLOAT = false, IS_SCALED = true;
  static constexpr long ROWS = 32;
  static long place(long k, long n) {
    return (k / 64 * 2 + n / 16) * 1024 + k % 64 / 4 * 64 + n % 16 * 4 + k % 4;
  }
  static void store(T* to, vf v, Steps s) {
    const __m512i i = _mm512_cvtps_epi32((__m512)(v * s.factor + s.zero));
    const __m128i bytes = UNSIGNED
                              ? _mm512_cvtusepi32_epi8(_mm512_max_epi32(i, _mm512_setzero_si512()))
                              : _mm512_cvtsepi32_epi8(i);
    memcpy(to, &bytes, 16);
  }
  static vf loaded(const float* c) { return (vf)_mm512_cvtepi32_ps(_mm512_loadu_si512(c)); }
  static void multiply(long rows, const T* a, long lda, const T* b, long k, float* c) {
    multiply_tiles(rows > 16, (const uint8_t*)a, lda, (const uint8_t*)b, k / 64, c, [](bool two) {
      if constexpr (UNSIGNED) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (!two) return;
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      } else {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        if (!two) return;
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    });
  }
};
#endif

// Dense: layers' inputs and weights; Positive: after the activation; Bulk: within attention.
#ifdef PATH_AMX_INT8
typedef Int8<false> Dense;
typedef Int8<true> Positive;
typedef BFloat16 Bulk;
#elif defined PATH_AMX
typedef BFloat16 Dense, Positive, Bulk;
#else
typedef Float32 Dense, Positive, Bulk;
#endif
constexpr bool TO_8_BITS = !Dense::IS_FLOAT;

struct alignas(64) Tile { float at[32 * PANEL]; };

// Calls done(row, column, values) for every W values of A (rows, k) times B (k, n), packed.
template <class P, class Done>
inline void product(const typename P::T* a, long lda, long rows, const typename P::T* b, long k,
                    long n, Done done) {
  Tile c;
  for (long column = 0; column < n; column += PANEL, b += k * PANEL)
    for (long row = 0; row < rows; row += P::ROWS) {
      const long some = rows - row < P::ROWS ? rows - row : P::ROWS;
      P::multiply(some, a + row * lda, lda, b, k, c.at);
      for (long r = 0; r < some; r++)
        for (long i = 0; i < PANEL; i += W)
          done(row + r, column + i, P::loaded(c.at + r * PANEL + i));
    }
}

template <class T>
T* allocated(long n) {
  void* p = nullptr;
  return n >= 0 && !posix_memalign(&p, 64, n * sizeof(T) + 64) ? (T*)p : nullptr;
}

// A weight (n, k), packed, and its bias (n). Of whole numbers, the bias and a scale for each output
// are behind the packed ones.
template <class P>
struct Weight {
  typename P::T* packed;
  const float *bias, *scale;
  long n, k;
  // Inputs are `in`'s whole numbers, or values where P has none.
  bool make(const float* weight, const float* b, long n_, long k_, Steps in) {
    n = n_, k = k_, bias = b;
    if (!(packed = allocated<typename P::T>(n * k + (P::IS_SCALED ? 8 * n : 0)))) return false;
    float* behind = (float*)(packed + n * k);
    for (long j = 0; j < n; j++) {
      typename P::T* panel = packed + j / PANEL * PANEL * k;
      const float* row = weight + j * k;
      if constexpr (P::IS_SCALED) {
        float most = 1e-30f, total = 0;
        for (long i = 0; i < k; i++) most = __builtin_fmaxf(most, __builtin_fabsf(row[i]));
        for (long i = 0; i < k; i++) {
          const float whole = __builtin_rintf(row[i] / (most / 127));
          total += whole;
          panel[P::place(i, j % PANEL)] = (typename P::T)whole;
        }
        behind[n + j] = most / 127 / in.factor;
        behind[j] = b[j] - behind[n + j] * in.zero * total;
      } else {
        for (long i = 0; i < k; i++) panel[P::place(i, j % PANEL)] = P::value(row[i]);
      }
    }
    if (P::IS_SCALED) bias = behind, scale = behind + n;
    return true;
  }
  template <class Done>
  void apply(const typename P::T* a, long lda, long rows, Done done) const {
    product<P>(a, lda, rows, packed, k, n, [&](long r, long c, vf v) {
      if constexpr (P::IS_SCALED) v *= load(scale + c);
      done(r, c, v + load(bias + c));
    });
  }
};

// Over the first n of `padded` values; the rest, whose weights and biases are 0, stays 0.
struct Norm {
  const float *weight, *bias;
  float eps;
  long n, padded;
  void operator()(float* row) const {
    apply(row, [](long, vf) {});
  }
  // The row in place, and also as what the next product reads.
  void operator()(float* row, Dense::T* narrow, Steps steps) const {
    if constexpr (Dense::IS_FLOAT) return (*this)(row);
    apply(row, [&](long i, vf v) { Dense::store(narrow + i, v, steps); });
  }
  template <class Done>
  void apply(float* row, Done done) const {
    vf s = {}, q = {};
    for (long i = 0; i < n; i += W) s += load(row + i);
    const float mean = sum(s) / n;
    for (long i = 0; i < n; i += W) {
      const vf d = load(row + i) - mean;
      q += i + W <= n ? d * d : first(d * d, n - i);
    }
    const float scale = 1.0f / __builtin_sqrtf(sum(q) / n + eps);
    for (long i = 0; i < padded; i += W) {
      const vf v = (load(row + i) - mean) * scale * load(weight + i) + load(bias + i);
      put(row + i, v);
      done(i, v);
    }
  }
};

struct Layer {
  Weight<Dense> inputs, output, inner;
  Weight<Positive> outer;
  Norm attention_norm, outer_norm;
  Steps into_inputs, into_output, into_inner, into_outer;
};

// HIDDEN, WIDTH (of a head), INNER and EMBEDDING are padded; what they were before comes last.
enum { HIDDEN, HEADS, WIDTH, INNER, LAYERS, TOKENS, POSITIONS, TYPES, EMBEDDING, LABELS, ACTIVATION,
       DENSE, TRUE_HIDDEN, TRUE_WIDTH, TRUE_EMBEDDING, SIZES };

struct Model {
  long s[SIZES];
  const float *token, *place;
  Norm embedding_norm, attention_norm, outer_norm;
  Weight<Float32> projection, query, output, inner, outer, dense, classifier;
  const float *key, *value, *value_bias;
  Layer* layers;
};

// The memory of one call; rows are rounded up, as a product may read up to 31 more.
struct Work {
  float *hidden = nullptr, *embedded = nullptr, *scores = nullptr, *cls = nullptr, *context = nullptr;
  Dense::T *narrow = nullptr, *mixed = nullptr;
  Positive::T* inner = nullptr;
  Bulk::T *inputs = nullptr, *keys = nullptr, *values = nullptr, *weights = nullptr;
  // What products of the hidden state read.
  const Dense::T* rows() const {
    return Dense::IS_FLOAT ? (const Dense::T*)hidden : narrow;
  }
  ~Work() {
    for (void* p : {(void*)hidden, (void*)embedded, (void*)scores, (void*)cls, (void*)context,
                    (void*)narrow, (void*)inputs, (void*)mixed, (void*)inner, (void*)keys,
                    (void*)values, (void*)weights})
      free(p);
  }
};

void embed(const Model& m, Work& w, const int32_t* ids, const int32_t* types, const int32_t* lengths,
           long n_pairs, long n_rows, Steps steps) {
  const long e = m.s[EMBEDDING], h = m.s[HIDDEN], ahead = 8;
  const bool projects = m.projection.packed;
  float* to = projects ? w.embedded : w.hidden;
  long row = 0;
  for (long pair = 0; pair < n_pairs; pair++)
    for (long at = 0; at < lengths[pair]; at++, row++) {
      // Rows of the table are wherever tokens happen to be: fetched while earlier ones are added.
      if (row + ahead < n_rows)
        for (long i = 0; i < e; i += 16) __builtin_prefetch(m.token + ids[row + ahead] * e + i);
      const float* token = m.token + ids[row] * e;
      const long type = m.s[TYPES] > 1 ? types[row] : 0;
      const float* place = m.place + (type * m.s[POSITIONS] + at) * e;
      for (long i = 0; i < e; i += W) put(to + row * e + i, load(token + i) + load(place + i));
      if (projects) m.embedding_norm(to + row * e);
      else m.embedding_norm(to + row * e, w.narrow + row * e, steps);
    }
  if (projects)
    m.projection.apply(to, e, row, [&](long r, long c, vf v) {
      put(w.hidden + r * h + c, v);
      if constexpr (!Dense::IS_FLOAT) Dense::store(w.narrow + r * h + c, v, steps);
    });
}

// Softmax of one row of scores (n), not yet divided by its sum, which is returned.
float softmax(float* scores, Bulk::T* weights, long n, long padded) {
  for (long i = n; i < padded; i++) scores[i] = -1e30f;
  vf high = load(scores), total = {};
  for (long i = W; i < padded; i += W) {
    const vf x = load(scores + i);
    high = x > high ? x : high;
  }
  const float top = largest(high);
  for (long i = 0; i < padded; i += W) {
    const vf p = exponential(load(scores + i) - top);
    total += p;
    Bulk::store(weights + i, p);
  }
  return sum(total);
}

// Attention within one pair of n rows: from w.inputs to w.mixed.
void attend(const Model& m, Work& w, long first, long n, Steps steps) {
  const long d = m.s[WIDTH], all_heads = m.s[HEADS] * d, ld = 3 * all_heads;
  const long padded = (n + 31) / 32 * 32;
  for (long head = 0; head < m.s[HEADS]; head++) {
    const Bulk::T* q = w.inputs + first * ld + head * d;
    Bulk::pack_keys(q + all_heads, ld, n, padded, d, w.keys);
    Bulk::pack_values(q + 2 * all_heads, ld, n, padded, d, w.values);
    for (long start = 0; start < n; start += 32) {
      const long rows = n - start < 32 ? n - start : 32;
      float share[32];
      product<Bulk>(q + start * ld, ld, rows, w.keys, d, padded,
                    [&](long r, long c, vf v) { put(w.scores + r * padded + c, v); });
      for (long r = 0; r < rows; r++)
        share[r] = 1.0f / softmax(w.scores + r * padded, w.weights + r * padded, n, padded);
      Dense::T* to = w.mixed + (first + start) * all_heads + head * d;
      product<Bulk>(w.weights, padded, rows, w.values, padded, d, [&](long r, long c, vf v) {
        Dense::store(to + r * all_heads + c, v * share[r], steps);
      });
    }
  }
}

// From w.hidden and w.rows() to the same; `next` is how the next layer reads them.
void full_layer(const Model& m, const Layer& layer, Work& w, const int32_t* lengths, long n_pairs,
                long rows, Steps next) {
  const long h = m.s[HIDDEN], all_heads = m.s[HEADS] * m.s[WIDTH], f = m.s[INNER];
  const auto residual = [&](long r, long c, vf v) {
    put(w.hidden + r * h + c, load(w.hidden + r * h + c) + v);
  };
  layer.inputs.apply(w.rows(), h, rows, [&](long r, long c, vf v) {
    Bulk::store(w.inputs + r * 3 * all_heads + c, v);
  });
  for (long pair = 0, first = 0; pair < n_pairs; first += lengths[pair++])
    attend(m, w, first, lengths[pair], layer.into_output);
  layer.output.apply(w.mixed, all_heads, rows, residual);
  for (long r = 0; r < rows; r++)
    layer.attention_norm(w.hidden + r * h, w.narrow + r * h, layer.into_inner);
  layer.inner.apply(w.rows(), h, rows, [&](long r, long c, vf v) {
    Positive::store(w.inner + r * f + c, activated<TO_8_BITS>(v, m.s[ACTIVATION]), layer.into_outer);
  });
  layer.outer.apply(w.inner, f, rows, residual);
  for (long r = 0; r < rows; r++) layer.outer_norm(w.hidden + r * h, w.narrow + r * h, next);
}

inline float dot(const float* a, const float* b, long n) {
  vf s = {};
  for (long i = 0; i < n; i += W) s += load(a + i) * load(b + i);
  return sum(s);
}
inline void add(float* to, float factor, const float* from, long n) {
  for (long i = 0; i < n; i += W) put(to + i, load(to + i) + factor * load(from + i));
}

// The last layer's attention, for [CLS] alone and without keys or values: see folding.py.
void attend_cls(const Model& m, Work& w, const float* states, long n, const float* query, float* mixed,
                float* to) {
  const long h = m.s[HIDDEN], d = m.s[WIDTH], true_d = m.s[TRUE_WIDTH];
  memset(to, 0, h * sizeof(float));
  for (long head = 0; head < m.s[HEADS]; head++) {
    memset(mixed, 0, h * 4);
    for (long i = 0; i < true_d; i++)
      add(mixed, query[head * d + i], m.key + (head * true_d + i) * h, h);
    float top = -1e30f, total = 0;
    for (long t = 0; t < n; t++) {
      w.scores[t] = dot(mixed, states + t * h, h);
      top = w.scores[t] > top ? w.scores[t] : top;
    }
    memset(mixed, 0, h * 4);
    for (long t = 0; t < n; t++) {
      const float p = exponential(all(w.scores[t] - top))[0];
      total += p;
      add(mixed, p, states + t * h, h);
    }
    for (long i = 0; i < true_d; i++)
      to[head * true_d + i] = dot(m.value + (head * true_d + i) * h, mixed, h) / total +
                              m.value_bias[head * true_d + i];
  }
}

// Everything once a pair: context and cls (rows, hidden) to logits; inner and dense are scratch.
void finish(const Model& m, float* context, float* cls, long rows, float* inner, float* logits) {
  const long h = m.s[HIDDEN], f = m.s[INNER], labels = m.s[LABELS];
  const auto residual = [&](long r, long c, vf v) { put(cls + r * h + c, load(cls + r * h + c) + v); };
  m.output.apply(context, h, rows, residual);
  for (long r = 0; r < rows; r++) m.attention_norm(cls + r * h);
  m.inner.apply(cls, h, rows, [&](long r, long c, vf v) {
    put(inner + r * f + c, activated<false>(v, m.s[ACTIVATION]));
  });
  m.outer.apply(inner, f, rows, residual);
  for (long r = 0; r < rows; r++) m.outer_norm(cls + r * h);
  if (m.s[DENSE])
    m.dense.apply(cls, h, rows,
                  [&](long r, long c, vf v) { put(context + r * h + c, activated<false>(v, m.s[DENSE])); });
  m.classifier.apply(m.s[DENSE] ? context : cls, h, rows, [&](long r, long c, vf v) {
    for (int i = 0; i < W && c + i < labels; i++) logits[r * labels + c + i] = v[i];
  });
}

int checked(const Model& m, const int32_t* ids, const int32_t* types, const int32_t* lengths,
            long n_pairs, long n_tokens) {
  long total = 0;
  for (long i = 0; i < n_pairs; total += lengths[i++])
    if (lengths[i] < 1 || lengths[i] > m.s[POSITIONS]) return BAD_LENGTH;
  if (total != n_tokens) return BAD_LENGTH;
  for (long i = 0; i < total; i++)
    if (ids[i] < 0 || ids[i] >= m.s[TOKENS]) return BAD_ID;
  for (long i = 0; m.s[TYPES] > 1 && i < total; i++)
    if (types[i] < 0 || types[i] >= m.s[TYPES]) return BAD_TYPE;
  return OK;
}

void start_tiles() {
#ifdef PATH_AMX
  alignas(64) uint8_t config[64] = {1};
  for (int i = 0; i < 8; i++) config[16 + 2 * i] = 64, config[48 + i] = 16;
  _tile_loadconfig(config);
#endif
}
}  // namespace

#define EXPORT __attribute__((visibility("default")))
extern "C" {
// 0 where the kernel lets this process use the instructions.
EXPORT int native_permit() {
#ifdef PATH_AMX
  return syscall(SYS_arch_prctl, 0x1023, 18) ? 1 : 0;
#else
  return 0;
#endif
}

// What the library was compiled from: a digest that build.py gives.
EXPORT const char* native_source() { return SOURCE; }

EXPORT void native_destroy(Model* m) {
  for (void* packed : {m->projection.packed, m->query.packed, m->output.packed, m->inner.packed,
                       m->outer.packed, m->dense.packed, m->classifier.packed})
    free(packed);
  for (long i = 0; m->layers && i < m->s[LAYERS] - 1; i++) {
    Layer& layer = m->layers[i];
    free(layer.inputs.packed), free(layer.output.packed);
    free(layer.inner.packed), free(layer.outer.packed);
  }
  free(m->layers);
  free(m);
}

// What sizes must be multiples of.
EXPORT int native_multiple() { return Dense::IS_SCALED ? 64 : 32; }

// Takes tensors in the order of model.py, which keeps alive those that are not packed. In int8,
// `steps` has a factor and a zero for each of the four products of each layer but the last. Null
// where there is no memory.
EXPORT Model* native_create(const int64_t* sizes, const float* const* t, const float* eps,
                            const Steps* steps) {
  Model* m = (Model*)calloc(1, sizeof(Model));
  if (!m) return nullptr;
  for (int i = 0; i < SIZES; i++) m->s[i] = sizes[i];
  const long h = sizes[HIDDEN], e = sizes[EMBEDDING], a = sizes[HEADS] * sizes[WIDTH], f = sizes[INNER];
  const long n_full = sizes[LAYERS] - 1;
  bool ok = (m->layers = (Layer*)calloc(n_full + 1, sizeof(Layer)));
  const auto norm = [&](Norm& to, long n, long padded) {
    to = {t[0], t[1], *eps++, n, padded}, t += 2;
  };
  const auto hidden_norm = [&](Norm& to) { norm(to, sizes[TRUE_HIDDEN], h); };
  const auto weight = [&](auto& to, long n, long k, Steps in = {}) {
    ok = ok && to.make(t[0], t[1], n, k, in), t += 2;
  };
  m->token = *t++, m->place = *t++;
  norm(m->embedding_norm, sizes[TRUE_EMBEDDING], e);
  if (sizes[TRUE_EMBEDDING] != sizes[TRUE_HIDDEN]) weight(m->projection, h, e);
  for (long i = 0; ok && i < n_full; i++) {
    Layer& layer = m->layers[i];
    if (Dense::IS_SCALED) {
      layer.into_inputs = *steps++, layer.into_output = *steps++;
      layer.into_inner = *steps++, layer.into_outer = *steps++;
    }
    weight(layer.inputs, 3 * a, h, layer.into_inputs), weight(layer.output, h, a, layer.into_output);
    hidden_norm(layer.attention_norm);
    weight(layer.inner, f, h, layer.into_inner), weight(layer.outer, h, f, layer.into_outer);
    hidden_norm(layer.outer_norm);
  }
  if (ok) {
    weight(m->query, a, h);
    m->key = *t++, m->value = *t++, m->value_bias = *t++;
    weight(m->output, h, h), hidden_norm(m->attention_norm);
    weight(m->inner, f, h), weight(m->outer, h, f), hidden_norm(m->outer_norm);
    if (sizes[DENSE]) weight(m->dense, h, h);
    weight(m->classifier, (sizes[LABELS] + PANEL - 1) / PANEL * PANEL, h);
  }
  if (ok) return m;
  native_destroy(m);
  return nullptr;
}

// Logits (n_pairs, labels) of pairs end to end; 0, or what is wrong.
EXPORT int native_forward(const Model* model, const int32_t* ids, const int32_t* types,
                   const int32_t* lengths, int64_t n_pairs, int64_t n_tokens, float* logits) {
  const Model& m = *model;
  if (int wrong = checked(m, ids, types, lengths, n_pairs, n_tokens)) return wrong;
  long longest = 0;
  for (long i = 0; i < n_pairs; i++) longest = lengths[i] > longest ? lengths[i] : longest;
  const long most = longest > CHUNK ? longest : CHUNK;
  const long rows = (n_tokens < most ? n_tokens : most) + 32, padded = (longest + 31) / 32 * 32;
  const long h = m.s[HIDDEN], a = m.s[HEADS] * m.s[WIDTH], f = m.s[INNER], e = m.s[EMBEDDING];
  Work w;
  float *query = nullptr, *inner = nullptr;
  struct Freed { float *&a, *&b; ~Freed() { free(a), free(b); } } freed{query, inner};
  const long block = n_pairs < CHUNK ? n_pairs : CHUNK;
  if (!((w.hidden = allocated<float>(rows * h)) && (w.embedded = allocated<float>(m.projection.packed ? rows * e : 0)) &&
        (w.scores = allocated<float>(32 * padded)) && (w.cls = allocated<float>(n_pairs * h)) &&
        (w.context = allocated<float>(n_pairs * h)) && (w.narrow = allocated<Dense::T>(Dense::IS_FLOAT ? 0 : rows * h)) &&
        (w.inputs = allocated<Bulk::T>(rows * 3 * a)) && (w.mixed = allocated<Dense::T>(rows * a)) &&
        (w.inner = allocated<Positive::T>(rows * f)) && (w.keys = allocated<Bulk::T>(padded * m.s[WIDTH])) &&
        (w.values = allocated<Bulk::T>(padded * m.s[WIDTH])) &&
        (w.weights = allocated<Bulk::T>(32 * padded)) && (query = allocated<float>(a + h)) &&
        (inner = allocated<float>(block * f))))
    return NO_MEMORY;
  start_tiles();
  for (long pair = 0; pair < n_pairs;) {
    long count = 0, n = 0;
    while (pair + count < n_pairs && (!count || n + lengths[pair + count] <= CHUNK))
      n += lengths[pair + count++];
    const long n_full = m.s[LAYERS] - 1;
    embed(m, w, ids, types, lengths + pair, count, n, m.layers[0].into_inputs);
    for (long i = 0; i < n_full; i++)
      full_layer(m, m.layers[i], w, lengths + pair, count, n, m.layers[i + 1].into_inputs);
    const float* states = w.hidden;
    for (long i = 0; i < count; states += lengths[pair + i++] * h) {
      float* context = w.context + (pair + i) * h;
      memcpy(w.cls + (pair + i) * h, states, h * 4);
      m.query.apply(states, h, 1, [&](long, long c, vf v) { put(query + c, v); });
      attend_cls(m, w, states, lengths[pair + i], query, query + a, context);
    }
    ids += n, types += n, pair += count;
  }
  for (long i = 0; i < n_pairs; i += block) {
    const long some = n_pairs - i < block ? n_pairs - i : block;
    finish(m, w.context + i * h, w.cls + i * h, some, inner, logits + i * m.s[LABELS]);
  }
#ifdef PATH_AMX
  _tile_release();
#endif
  return OK;
}
}
