#ifndef COTERIE_TESTS_CLUSTER_METRICS_PAGE_H_
#define COTERIE_TESTS_CLUSTER_METRICS_PAGE_H_

#include <string>

namespace coterie::cluster {

// GET /metrics from 127.0.0.1:port. Fails the test and returns "" when nobody answers.
std::string MetricsPage(int port);

// Sum of a metric over all its labels; fails the test when the page does not have it.
double MetricSum(const std::string& page, const std::string& name);

}  // namespace coterie::cluster

#endif  // COTERIE_TESTS_CLUSTER_METRICS_PAGE_H_
