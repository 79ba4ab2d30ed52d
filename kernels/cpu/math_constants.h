#ifndef COTERIE_KERNELS_CPU_MATH_CONSTANTS_H_
#define COTERIE_KERNELS_CPU_MATH_CONSTANTS_H_

// Coefficients of our elementary functions: minimax fits (Lawson iteration over Chebyshev points in float64,
// then rounded), ascending powers.
namespace coterie::cpu {

constexpr float kExpLowest = -110.0f;  // e^x rounds to 0 well before
constexpr float kExpHighest = 89.0f;   // e^x is infinite from 88.73 on
constexpr float kLog2E = 1.44269502f;
constexpr float kLn2High = 0.693145752f;  // 0x1.62e4p-1: n · kLn2High is exact for |n| < 1024
constexpr float kLn2Low = 1.42860677e-06f;
// (e^r - 1 - r) / r² on |r| <= ln2/2, relative error of e^r 3.1e-9
constexpr float kExpPoly[5] = {0.49999994f, 0.1666652f, 0.041668393f, 0.008368781f, 0.0013814465f};

// (2^f - 1) / f on |f| <= 1/2, relative error of 2^f 2.9e-6
constexpr float kExp2Poly[4] = {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f};
constexpr float kExp2Lowest = -126.0f;     // 2^t is this power below it
constexpr float kExp2Round = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, in the low bits

// Gelu by tanh: 2u = x (linear + cubic x²), linear = 2 √(2/π), cubic = 0.044715 linear
constexpr float kGeluTanhLinear = 1.59576916f;
constexpr float kGeluTanhCubic = 0.0713548139f;

constexpr float kErfSplit = 0.92f;
// erf(x) / x as a series in x², |x| <= 0.948
constexpr float kErfSmall[7] = {1.1283792f,    -0.37612632f,   0.11283674f,  -0.026858186f,
                                0.0051979916f, -0.0008108082f, 8.223984e-05f};
// -log(1 - erf(a)) on 0.9 <= a <= 4
constexpr float kErfLarge[9] = {-0.0001506137f, 1.1293818f,      0.6336633f,     0.10785821f,   -0.024774512f,
                                0.003994101f,   -0.00037884968f, 1.1311351e-05f, 7.3745633e-07f};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_MATH_CONSTANTS_H_
