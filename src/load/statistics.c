#include <assert.h>
#include <math.h>
#include "load/statistics.h"

void sample_add(struct sample *sample, double x)
{
    double delta = x - sample->mean;

    sample->n++;
    sample->mean += delta / (double)sample->n;
    sample->sum_of_squares += delta * (x - sample->mean);
}

double sample_deviation(const struct sample *sample)
{
    return sample->n < 2 ? 0 : sqrt(sample->sum_of_squares / (double)(sample->n - 1));
}

double laplace_inverse(double p)
{
    double low = 0, high = 40;

    assert(p >= 0 && p < 1);
    /* 2 Phi(t) = erf(t / sqrt 2), which grows: bisect to the last bit. */
    for (int i = 0; i < 200; i++) {
        double t = (low + high) / 2;

        if (erf(t / M_SQRT2) < p)
            low = t;
        else
            high = t;
    }
    return (low + high) / 2;
}

double sample_accuracy(const struct sample *sample, double p)
{
    return sample->n ? laplace_inverse(p) * sample_deviation(sample) / sqrt((double)sample->n) : INFINITY;
}

uint64_t sample_needed(const struct sample *sample, double p, double delta)
{
    double root = laplace_inverse(p) * sample_deviation(sample) / delta;
    double n = ceil(root * root);

    if (n < STATISTICS_PRELIMINARY)
        return STATISTICS_PRELIMINARY;
    return n < 1e15 ? (uint64_t)n : (uint64_t)1e15;
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t next(struct random_source *source)
{
    uint64_t *s = source->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

void random_source_init(struct random_source *source, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        source->s[i] = z ^ (z >> 31);
    }
}

double random_uniform(struct random_source *source)
{
    return (double)(next(source) >> 11) * 0x1p-53;
}

double random_exponential(struct random_source *source, double mean)
{
    return -mean * log1p(-random_uniform(source));
}
