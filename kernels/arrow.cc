#include "kernels/arrow.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/formats/dequantize.h"
#include "kernels/host_matrix.h"

namespace coterie {
namespace {

// Columns in a row of a matrix are padded to it: the compiler then has loops of a fixed length.
constexpr size_t kColumns = 8;

// A square matrix, row-major.
struct Square {
  explicit Square(size_t n) : n(n), pitch((n + kColumns - 1) / kColumns * kColumns), values(n * pitch) {}
  double* row(size_t i) { return values.data() + i * pitch; }
  const double* row(size_t i) const { return values.data() + i * pitch; }
  double trace() const {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += row(i)[i];
    return sum;
  }

  size_t n;
  size_t pitch;
  std::vector<double> values;
};

// to += factor · from, both [pitch].
void AddTimes(double factor, const double* from, size_t pitch, double* to) {
  for (size_t begin = 0; begin < pitch; begin += kColumns) {
    for (size_t i = begin; i < begin + kColumns; ++i) to[i] += factor * from[i];
  }
}

const uint8_t* RowBegin(const HostMatrix& matrix, int64_t row) {
  return matrix.data + RowInData(matrix, row) * RowBytes(matrix.dtype, matrix.n_in);
}

// Σ x xᵀ over the rows x of a matrix [n, rank] that `fill` writes in double, one after the other.
template <typename Fill>
Square SumOfSquares(size_t rank, int64_t n, const Fill& fill) {
  Square sum(rank);
  std::vector<double> x(sum.pitch);
  for (int64_t i = 0; i < n; ++i) {
    fill(i, x.data());
    for (size_t r = 0; r < rank; ++r) AddTimes(x[r], x.data(), sum.pitch, sum.row(r));
  }
  return sum;
}

// A Aᵀ
Square GramOfRows(const HostMatrix& a) {
  const auto rank = static_cast<size_t>(a.n_out), n_in = static_cast<size_t>(a.n_in);
  std::vector<float> rows(rank * n_in);
  for (size_t r = 0; r < rank; ++r) {
    Dequantize(a.dtype, RowBegin(a, static_cast<int64_t>(r)), a.n_in, rows.data() + r * n_in);
  }
  return SumOfSquares(rank, a.n_in, [&](int64_t k, double* x) {
    for (size_t r = 0; r < rank; ++r) x[r] = static_cast<double>(rows[r * n_in + static_cast<size_t>(k)]);
  });
}

// Bᵀ B
Square GramOfColumns(const HostMatrix& b) {
  std::vector<float> row(static_cast<size_t>(b.n_in));
  return SumOfSquares(row.size(), b.n_out, [&](int64_t n, double* x) {
    Dequantize(b.dtype, RowBegin(b, n), b.n_in, row.data());
    std::copy(row.begin(), row.end(), x);
  });
}

Square Product(const Square& a, const Square& b) {
  Square product(a.n);
  for (size_t i = 0; i < a.n; ++i) {
    for (size_t k = 0; k < a.n; ++k) AddTimes(a.row(i)[k], b.row(k), b.pitch, product.row(i));
  }
  return product;
}

Square Transposed(const Square& a) {
  Square to(a.n);
  for (size_t i = 0; i < a.n; ++i) {
    for (size_t j = 0; j < a.n; ++j) to.row(j)[i] = a.row(i)[j];
  }
  return to;
}

// L with L Lᵀ = g, lower triangular. Columns that depend on those before them (B of less than full rank)
// become zero.
Square Cholesky(const Square& g) {
  constexpr double kDependent = 1e-13;
  Square l(g.n);
  double largest = 0;
  for (size_t i = 0; i < g.n; ++i) largest = std::max(largest, g.row(i)[i]);
  for (size_t j = 0; j < g.n; ++j) {
    for (size_t i = j; i < g.n; ++i) {
      double rest = g.row(i)[j];
      for (size_t k = 0; k < j; ++k) rest -= l.row(i)[k] * l.row(j)[k];
      if (i == j) {
        if (!(rest > kDependent * largest)) break;
        l.row(j)[j] = std::sqrt(rest);
      } else {
        l.row(i)[j] = rest / l.row(j)[j];
      }
    }
  }
  return l;
}

// The eigenvector of the largest eigenvalue of m, symmetric and with no negative eigenvalue: m squared over
// and over tends to its projector, whatever lies between the first eigenvalues. Of length 1; zeros for m = 0.
std::vector<double> TopEigenvector(Square m) {
  constexpr int kMostSquarings = 40;  // eigenvalues whose ratio is within 10^-12 of 1 count as equal
  constexpr double kDone = 1e-15;
  for (int i = 0; i < kMostSquarings; ++i) {
    const double trace = m.trace();
    if (!(trace > 0)) return std::vector<double>(m.n);
    double squares = 0;  // the trace of m²
    for (double& value : m.values) {
      value /= trace;
      squares += value * value;
    }
    if (1 - squares < kDone) break;
    m = Product(m, m);
  }
  size_t best = 0;
  for (size_t i = 1; i < m.n; ++i) {
    if (m.row(i)[i] > m.row(best)[best]) best = i;
  }
  std::vector<double> top(m.row(best), m.row(best) + m.n);
  double length = 0;
  for (const double value : top) length += value * value;
  for (double& value : top) value /= std::sqrt(length);
  return top;
}

}  // namespace

// With B Aᵀ's Gram matrices: v is an eigenvector of Aᵀ (BᵀB) A, so w is one of (BᵀB)(A Aᵀ), both for σ². With
// L Lᵀ = BᵀB, w = L z where z is one of the symmetric Lᵀ (A Aᵀ) L. Squaring singular values costs nothing
// that matters for the largest.
std::vector<float> ArrowDirection(const HostMatrix& a, const HostMatrix& b) {
  const Square gram = GramOfRows(a);
  const Square l = Cholesky(GramOfColumns(b));
  const std::vector<double> z = TopEigenvector(Product(Transposed(l), Product(gram, l)));
  std::vector<double> w(l.n);
  for (size_t i = 0; i < l.n; ++i) {
    for (size_t k = 0; k <= i; ++k) w[i] += l.row(i)[k] * z[k];
  }
  double squares = 0;  // |Aᵀ w|²
  for (size_t i = 0; i < l.n; ++i) {
    for (size_t k = 0; k < l.n; ++k) squares += w[i] * gram.row(i)[k] * w[k];
  }
  std::vector<float> direction(l.n);
  if (!(squares > 0)) return direction;
  for (size_t i = 0; i < l.n; ++i) direction[i] = static_cast<float>(w[i] / std::sqrt(squares));
  return direction;
}

}  // namespace coterie
