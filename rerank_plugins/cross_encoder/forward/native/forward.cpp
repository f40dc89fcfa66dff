// The forward pass of a BERT-shaped cross-encoder, over chunks of pairs that stay in the L2 cache.
//
// One source, compiled once for each processor: -DPATH_AVX2, -DPATH_AVX512, -DPATH_AMX. Vector
// arithmetic is the compiler's own (GCC and clang vector types); only AMX needs intrinsics. A row's
// result never depends on which rows stand beside it, so a pair's logits do not depend on its batch.
// Sizes are padded with zeros to whole vectors and tiles by the caller: padding stays zero all the
// way. Nothing here throws, prints, starts a thread or keeps anything between calls.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#ifdef PATH_AMX
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
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
inline float sum(vf v) {
  float s[W], t = 0;
  memcpy(s, &v, sizeof s);
  for (int n = W / 2; n; n /= 2)
    for (int i = 0; i < n; i++) s[i] += s[i + n];
  return t + s[0];
}
// The first n values, and 0 after.
inline vf first(vf v, long n) {
  for (long i = n; i < W; i++) v[i] = 0;
  return v;
}
inline float largest(vf v) {
  float m = v[0];
  for (int i = 1; i < W; i++) m = v[i] > m ? v[i] : m;
  return m;
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
  return (vf)(((vi)shifted << 23) + (vi)p);
}

// Abramowitz and Stegun 7.1.26: erf to 1.5e-7.
inline vf gelu(vf x) {
  const vf z = (x < 0.0f ? -x : x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
  vf p = all(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const vf tail = 0.5f * p * t * exponential(-z * z);  // the part of a normal beyond |x|
  return x * (x < 0.0f ? tail : 1.0f - tail);
}
inline vf activated(vf x, int kind) {
  switch (kind) {
    case 1: return gelu(x);
    case 2: return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
    case 3: return x < 0.0f ? vf{} : x;
    case 4: return x / (1.0f + exponential(-x));
    case 5: return 1.0f - 2.0f / (1.0f + exponential(2.0f * x));
  }
  return x;
}

// ---- products: C (rows, PANEL) = A (rows, k) times one packed panel (k, PANEL) ----

struct Float32 {
  typedef float T;
  static constexpr long K_STEP = 1, ROWS = BLOCK;
  static long place(long k, long n) { return k * PANEL + n; }
  static void store(T* to, vf v) { put(to, v); }
  static T value(float x) { return x; }
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
};

#ifdef PATH_AMX
// A panel is tiles of 32 by 16, two beside each other; a tile's row has pairs of neighbours in k.
struct BFloat16 {
  typedef bf16 T;
  static constexpr long K_STEP = 32, ROWS = 32;
  static long place(long k, long n) {
    return (k / 32 * 2 + n / 16) * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2;
  }
  static void store(T* to, vf v) {
    const __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    memcpy(to, &h, 32);
  }
  static T value(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (u >> 16) | 64;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
  }
  // Rows up to the next 16 are read, and their sums not used.
  static void multiply(long rows, const T* a, long lda, const T* b, long k, float* c) {
    const bool two = rows > 16;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long i = 0; i < k; i += 32, b += 1024) {
      _tile_loadd(4, a + i, lda * 2);
      _tile_loadd(6, b, 64);
      _tile_loadd(7, b + 512, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (!two) continue;
      _tile_loadd(5, a + 16 * lda + i, lda * 2);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
    if (!two) return;
    _tile_stored(2, c + 16 * PANEL, 128);
    _tile_stored(3, c + 16 * PANEL + 16, 128);
  }
};
typedef BFloat16 Bulk;
#else
typedef Float32 Bulk;
#endif

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
        for (long i = 0; i < PANEL; i += W) done(row + r, column + i, load(c.at + r * PANEL + i));
    }
}

template <class T>
T* allocated(long n) {
  void* p = nullptr;
  return n >= 0 && !posix_memalign(&p, 64, n * sizeof(T) + 64) ? (T*)p : nullptr;
}

// A weight (n, k), packed, and its bias (n).
template <class P>
struct Weight {
  typename P::T* packed;
  const float* bias;
  long n, k;
  bool make(const float* weight, const float* b, long n_, long k_) {
    n = n_, k = k_, bias = b;
    if (!(packed = allocated<typename P::T>(n * k))) return false;
    for (long j = 0; j < n; j++)
      for (long i = 0; i < k; i++)
        packed[j / PANEL * PANEL * k + P::place(i, j % PANEL)] = P::value(weight[j * k + i]);
    return true;
  }
  template <class Done>
  void apply(const typename P::T* a, long lda, long rows, Done done) const {
    product<P>(a, lda, rows, packed, k, n,
               [&](long r, long c, vf v) { done(r, c, v + load(bias + c)); });
  }
};

// Over the first n of `padded` values; the rest, whose weights and biases are 0, stays 0.
struct Norm {
  const float *weight, *bias;
  float eps;
  long n, padded;
  void operator()(float* row) const {
    vf s = {}, q = {};
    for (long i = 0; i < n; i += W) s += load(row + i);
    const float mean = sum(s) / n;
    for (long i = 0; i < n; i += W) {
      const vf d = load(row + i) - mean;
      q += i + W <= n ? d * d : first(d * d, n - i);
    }
    const float scale = 1.0f / __builtin_sqrtf(sum(q) / n + eps);
    for (long i = 0; i < padded; i += W)
      put(row + i, (load(row + i) - mean) * scale * load(weight + i) + load(bias + i));
  }
};

struct Layer {
  Weight<Bulk> inputs, output, inner, outer;
  Norm attention_norm, outer_norm;
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

template <class T>
void narrow(const float* from, T* to, long n) {
  for (long i = 0; i < n; i += W) Bulk::store(to + i, load(from + i));
}

// The memory of one call; rows are rounded up, as a product may read up to 31 more.
struct Work {
  float *hidden = nullptr, *embedded = nullptr, *scores = nullptr, *cls = nullptr, *context = nullptr;
  Bulk::T *rows = nullptr, *inputs = nullptr, *mixed = nullptr, *inner = nullptr, *keys = nullptr,
          *values = nullptr, *weights = nullptr;
  ~Work() {
    for (void* p : {(void*)hidden, (void*)embedded, (void*)scores, (void*)cls, (void*)context,
                    (void*)rows, (void*)inputs, (void*)mixed, (void*)inner, (void*)keys,
                    (void*)values, (void*)weights})
      free(p);
  }
};

void embed(const Model& m, Work& w, const int32_t* ids, const int32_t* types, const int32_t* lengths,
           long n_pairs) {
  const long e = m.s[EMBEDDING], h = m.s[HIDDEN];
  float* to = m.projection.packed ? w.embedded : w.hidden;
  long row = 0;
  for (long pair = 0; pair < n_pairs; pair++)
    for (long at = 0; at < lengths[pair]; at++, row++) {
      const float* token = m.token + ids[row] * e;
      const long type = m.s[TYPES] > 1 ? types[row] : 0;
      const float* place = m.place + (type * m.s[POSITIONS] + at) * e;
      for (long i = 0; i < e; i += W) put(to + row * e + i, load(token + i) + load(place + i));
      m.embedding_norm(to + row * e);
    }
  if (m.projection.packed)
    m.projection.apply(to, e, row, [&](long r, long c, vf v) { put(w.hidden + r * h + c, v); });
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
void attend(const Model& m, Work& w, long first, long n) {
  const long d = m.s[WIDTH], all_heads = m.s[HEADS] * d, ld = 3 * all_heads;
  const long padded = (n + 31) / 32 * 32;
  for (long head = 0; head < m.s[HEADS]; head++) {
    const Bulk::T* q = w.inputs + first * ld + head * d;
    memset(w.keys, 0, padded * d * sizeof(Bulk::T));
    memset(w.values, 0, padded * d * sizeof(Bulk::T));
    for (long t = 0; t < n; t++)
      for (long i = 0; i < d; i++) {
        w.keys[t / PANEL * PANEL * d + Bulk::place(i, t % PANEL)] = q[t * ld + all_heads + i];
        w.values[i / PANEL * PANEL * padded + Bulk::place(t, i % PANEL)] =
            q[t * ld + 2 * all_heads + i];
      }
    for (long start = 0; start < n; start += 32) {
      const long rows = n - start < 32 ? n - start : 32;
      float share[32];
      product<Bulk>(q + start * ld, ld, rows, w.keys, d, padded,
                    [&](long r, long c, vf v) { put(w.scores + r * padded + c, v); });
      for (long r = 0; r < rows; r++)
        share[r] = 1.0f / softmax(w.scores + r * padded, w.weights + r * padded, n, padded);
      Bulk::T* to = w.mixed + (first + start) * all_heads + head * d;
      product<Bulk>(w.weights, padded, rows, w.values, padded, d,
                    [&](long r, long c, vf v) { Bulk::store(to + r * all_heads + c, v * share[r]); });
    }
  }
}

void full_layer(const Model& m, const Layer& layer, Work& w, const int32_t* lengths, long n_pairs,
                long rows) {
  const long h = m.s[HIDDEN], all_heads = m.s[HEADS] * m.s[WIDTH], f = m.s[INNER];
  const auto residual = [&](long r, long c, vf v) {
    put(w.hidden + r * h + c, load(w.hidden + r * h + c) + v);
  };
  narrow(w.hidden, w.rows, rows * h);
  layer.inputs.apply(w.rows, h, rows, [&](long r, long c, vf v) {
    Bulk::store(w.inputs + r * 3 * all_heads + c, v);
  });
  for (long pair = 0, first = 0; pair < n_pairs; first += lengths[pair++])
    attend(m, w, first, lengths[pair]);
  layer.output.apply(w.mixed, all_heads, rows, residual);
  for (long r = 0; r < rows; r++) layer.attention_norm(w.hidden + r * h);
  narrow(w.hidden, w.rows, rows * h);
  layer.inner.apply(w.rows, h, rows, [&](long r, long c, vf v) {
    Bulk::store(w.inner + r * f + c, activated(v, m.s[ACTIVATION]));
  });
  layer.outer.apply(w.inner, f, rows, residual);
  for (long r = 0; r < rows; r++) layer.outer_norm(w.hidden + r * h);
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
    put(inner + r * f + c, activated(v, m.s[ACTIVATION]));
  });
  m.outer.apply(inner, f, rows, residual);
  for (long r = 0; r < rows; r++) m.outer_norm(cls + r * h);
  if (m.s[DENSE])
    m.dense.apply(cls, h, rows,
                  [&](long r, long c, vf v) { put(context + r * h + c, activated(v, m.s[DENSE])); });
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
  for (Weight<Float32>* each : {&m->projection, &m->query, &m->output, &m->inner, &m->outer, &m->dense,
                                &m->classifier})
    free(each->packed);
  for (long i = 0; m->layers && i < m->s[LAYERS] - 1; i++)
    for (Weight<Bulk>* each : {&m->layers[i].inputs, &m->layers[i].output, &m->layers[i].inner,
                               &m->layers[i].outer})
      free(each->packed);
  free(m->layers);
  free(m);
}

// Takes tensors in the order of model.py, which keeps alive those that are not packed. Null where
// there is no memory.
EXPORT Model* native_create(const int64_t* sizes, const float* const* t, const float* eps) {
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
  const auto weight = [&](auto& to, long n, long k) { ok = ok && to.make(t[0], t[1], n, k), t += 2; };
  m->token = *t++, m->place = *t++;
  norm(m->embedding_norm, sizes[TRUE_EMBEDDING], e);
  if (sizes[TRUE_EMBEDDING] != sizes[TRUE_HIDDEN]) weight(m->projection, h, e);
  for (long i = 0; ok && i < n_full; i++) {
    Layer& layer = m->layers[i];
    weight(layer.inputs, 3 * a, h), weight(layer.output, h, a), hidden_norm(layer.attention_norm);
    weight(layer.inner, f, h), weight(layer.outer, h, f), hidden_norm(layer.outer_norm);
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
        (w.context = allocated<float>(n_pairs * h)) && (w.rows = allocated<Bulk::T>(rows * h)) &&
        (w.inputs = allocated<Bulk::T>(rows * 3 * a)) && (w.mixed = allocated<Bulk::T>(rows * a)) &&
        (w.inner = allocated<Bulk::T>(rows * f)) && (w.keys = allocated<Bulk::T>(padded * m.s[WIDTH])) &&
        (w.values = allocated<Bulk::T>(padded * m.s[WIDTH])) &&
        (w.weights = allocated<Bulk::T>(32 * padded)) && (query = allocated<float>(a + h)) &&
        (inner = allocated<float>(block * f))))
    return NO_MEMORY;
  start_tiles();
  for (long pair = 0; pair < n_pairs;) {
    long count = 0, n = 0;
    while (pair + count < n_pairs && (!count || n + lengths[pair + count] <= CHUNK))
      n += lengths[pair + count++];
    embed(m, w, ids, types, lengths + pair, count);
    for (long i = 0; i < m.s[LAYERS] - 1; i++) full_layer(m, m.layers[i], w, lengths + pair, count, n);
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
