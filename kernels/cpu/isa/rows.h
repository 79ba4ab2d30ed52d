#ifndef COTERIE_KERNELS_CPU_ISA_ROWS_H_
#define COTERIE_KERNELS_CPU_ISA_ROWS_H_

#include "kernels/cpu/isa/math.h"
#include "kernels/cpu/kernel_table.h"

// Ops that work row by row: norms, activations, pooling, dot products. A sum along a row runs in 16 strided
// lanes (lane l adds elements l, l + 16, ... in order), then the tree of ReduceAdd (docs/numerics.md, "Sums
// along a row").
namespace coterie::cpu::COTERIE_ISA {

// f(index, count) for every whole vector, then for the rest.
template <class Body>
inline void ForVectors(int64_t n, Body f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) f(i, 16);
  if (i < n) f(i, static_cast<int>(n - i));
}
inline F LoadUpTo(const float* p, int n) { return n == 16 ? Load(p) : LoadN(p, n); }
inline void StoreUpTo(float* p, F a, int n) {
  if (n == 16) {
    Store(p, a);
  } else {
    StoreN(p, a, n);
  }
}

inline float SumOfSquares(const float* x, int64_t n) {
  F acc = Zero();
  ForVectors(n, [&](int64_t i, int count) {
    const F v = LoadUpTo(x + i, count);
    acc = Fma(v, v, acc);
  });
  return ReduceAdd(acc);
}

// Turns a row that holds NaN, an infinity, or values so large that their products may overflow into NaN
// throughout (docs/numerics.md, "What is no number"). One bad value could vanish in the range of a block or
// under a softmax; a row of NaN cannot. `squares` is the sum of squares of the row.
inline bool OutOfRange(float squares) { return !(squares < kSquaresLimit); }
inline void Spoil(float* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) row[i] = __builtin_nanf("");
}

// 1 / sqrt(mean square + eps).
inline float InverseRms(float squares, int d, float eps) {
  if (OutOfRange(squares)) return __builtin_nanf("");
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(d) + eps);
}

inline void RmsNormRow(const float* x, const float* weight, float eps, int d, float* y) {
  const F inverse = Set1(InverseRms(SumOfSquares(x, d), d, eps));
  ForVectors(d, [&](int64_t i, int n) {
    StoreUpTo(y + i, Mul(Mul(LoadUpTo(x + i, n), inverse), LoadUpTo(weight + i, n)), n);
  });
}

inline void RmsNorm(const float* x, const float* weight, float eps, int rows, int d, float* y) {
  for (int64_t row = 0; row < rows; ++row) RmsNormRow(x + row * d, weight, eps, d, y + row * d);
}

// y += norm(x)
inline void AddRmsNorm(const float* x, const float* weight, float eps, int rows, int d, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += d, y += d) {
    const F inverse = Set1(InverseRms(SumOfSquares(x, d), d, eps));
    ForVectors(d, [&](int64_t i, int n) {
      const F normed = Mul(Mul(LoadUpTo(x + i, n), inverse), LoadUpTo(weight + i, n));
      StoreUpTo(y + i, Add(LoadUpTo(y + i, n), normed), n);
    });
  }
}

inline void LayerNorm(const float* x, const float* residual, const float* weight, const float* bias,
                      float eps, int rows, int d, float* y) {
  for (int64_t row = 0; row < rows; ++row) {
    float* out = y + row * d;
    F acc = Zero();
    ForVectors(d, [&](int64_t i, int n) {
      F v = LoadUpTo(x + row * d + i, n);
      if (residual != nullptr) v = Add(v, LoadUpTo(residual + row * d + i, n));
      StoreUpTo(out + i, v, n);
      acc = Add(acc, v);
    });
    const float mean = ReduceAdd(acc) / static_cast<float>(d);
    ForVectors(d, [&](int64_t i, int n) { StoreUpTo(out + i, Sub(LoadUpTo(out + i, n), Set1(mean)), n); });
    const F inverse = Set1(InverseRms(SumOfSquares(out, d), d, eps));
    ForVectors(d, [&](int64_t i, int n) {
      const F v = Mul(LoadUpTo(out + i, n), inverse);
      StoreUpTo(out + i, Fma(v, LoadUpTo(weight + i, n), LoadUpTo(bias + i, n)), n);
    });
  }
}

// h = activation(gate) · up
template <F (*kActivation)(F)>
inline void GatedUnit(const float* gate_up, int rows, int f, float* h) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* gate = gate_up + row * 2 * f;
    F squares = Zero();
    ForVectors(f, [&](int64_t i, int n) {
      const F v = Mul(kActivation(LoadUpTo(gate + i, n)), LoadUpTo(gate + f + i, n));
      squares = Fma(v, v, squares);
      StoreUpTo(h + row * f + i, v, n);
    });
    if (OutOfRange(ReduceAdd(squares))) Spoil(h + row * f, f);
  }
}

// x/2 · (1 + erf(x/√2))
inline void Gelu(const float* x, int rows, int d, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += d, y += d) {
    F squares = Zero();
    ForVectors(d, [&](int64_t i, int n) {
      const F v = LoadUpTo(x + i, n);
      squares = Fma(v, v, squares);
      const F e = Erf(Mul(v, Set1(0.707106769f)));
      StoreUpTo(y + i, Mul(Mul(v, Set1(0.5f)), Add(Set1(1.0f), e)), n);
    });
    if (OutOfRange(ReduceAdd(squares))) Spoil(y, d);
  }
}

// y = the mean of the rows, divided by its Euclidean norm. Column sums run over ascending rows.
inline void MeanPoolNormalize(const float* x, int rows, int d, float* y) {
  ForVectors(d, [&](int64_t i, int n) {
    F acc = Zero();
    for (int64_t row = 0; row < rows; ++row) acc = Add(acc, LoadUpTo(x + row * d + i, n));
    StoreUpTo(y + i, Div(acc, Set1(static_cast<float>(rows))), n);
  });
  const float length = __builtin_sqrtf(SumOfSquares(y, d));
  const F divisor = Set1(length > 1e-12f ? length : 1e-12f);
  ForVectors(d, [&](int64_t i, int n) { StoreUpTo(y + i, Div(LoadUpTo(y + i, n), divisor), n); });
}

inline void DotRows(const float* query, const float* rows, int64_t n_rows, int64_t dim, float* scores) {
  int64_t row = 0;
  // Four rows at a time: their chains hide one another's latency and share the loads of the query.
  for (; row + 4 <= n_rows; row += 4) {
    const float* p = rows + row * dim;
    F acc[4] = {Zero(), Zero(), Zero(), Zero()};
    ForVectors(dim, [&](int64_t i, int n) {
      const F q = LoadUpTo(query + i, n);
      for (int r = 0; r < 4; ++r) acc[r] = Fma(q, LoadUpTo(p + r * dim + i, n), acc[r]);
    });
    for (int r = 0; r < 4; ++r) scores[row + r] = ReduceAdd(acc[r]);
  }
  for (; row < n_rows; ++row) {
    const float* p = rows + row * dim;
    F acc = Zero();
    ForVectors(dim, [&](int64_t i, int n) { acc = Fma(LoadUpTo(query + i, n), LoadUpTo(p + i, n), acc); });
    scores[row] = ReduceAdd(acc);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_ROWS_H_
