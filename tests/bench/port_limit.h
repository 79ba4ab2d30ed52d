#ifndef COTERIE_TESTS_BENCH_PORT_LIMIT_H_
#define COTERIE_TESTS_BENCH_PORT_LIMIT_H_

namespace coterie::bench {

// Multiply-adds of bytes per second and thread, in units of 10^9, that this machine's execution ports allow
// AVX2 now: a loop of nothing but vpmaddubsw, the additions of their results and one vpmaddwd for every
// `products_per_sum` of them, on registers. 8 suffice for 4-bit codes (a block of 32), 4 for 5 bits, 2 for 6.
// With 0, of 16-bit operands: vpmaddwd and an addition for 16 values, as 8-bit codes need. A product also
// loads, scales and accumulates, so that no kernel gets there. 0 on a machine without AVX2.
double PortLimitGmacPerSecond(int products_per_sum);

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_PORT_LIMIT_H_
