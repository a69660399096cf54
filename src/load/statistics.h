/*
 * Sample statistics and the number of measurements that a stated accuracy needs.
 *
 * Source of the method: M. Rovnyagin, K. Timofeev, A. Elenkin, V. Shipugin, "Cloud Computing Architecture for
 * High-volume ML-based Solutions", EIConRus 2019, relations (3) to (7): a preliminary series of n >= 100
 * gives the mean x and the standard deviation s (with n - 1); for a confidence p, t follows from
 * 2 Phi(t) = p with the Laplace function Phi(t) = (2 pi)^-1/2 * integral of exp(-u^2/2) from 0 to t; the
 * accuracy is delta = t s / sqrt(n), so n >= (t s / delta)^2 measurements are needed.
 */
#pragma once

#include <stdint.h>

#define STATISTICS_PRELIMINARY 100 /* measurements of the preliminary series */

/* Mean and variance of a growing sample (B. P. Welford, 1962). Start with zeros. */
struct sample {
    uint64_t n;
    double mean;
    double sum_of_squares; /* of deviations from the mean */
};

void sample_add(struct sample *sample, double x);
/* Standard deviation with n - 1; 0 for fewer than two values. */
double sample_deviation(const struct sample *sample);

/* t with 2 Phi(t) = p, for 0 <= p < 1: 1.95996 for 0.95. */
double laplace_inverse(double p);
/* Half the width of the confidence interval of the mean: t s / sqrt(n). */
double sample_accuracy(const struct sample *sample, double p);
/* Measurements needed for accuracy delta (same unit as the values) at confidence p; at least
 * STATISTICS_PRELIMINARY. */
uint64_t sample_needed(const struct sample *sample, double p, double delta);

/* Random numbers of a load: xoshiro256** (D. Blackman, S. Vigna, 2018), seeded by splitmix64, so that a
 * seed gives the same load on every machine. */
struct random_source {
    uint64_t s[4];
};

void random_source_init(struct random_source *source, uint64_t seed);
/* Uniform in [0, 1). */
double random_uniform(struct random_source *source);
/* Exponential with this mean: the gap between arrivals of a Poisson flow. */
double random_exponential(struct random_source *source, double mean);
