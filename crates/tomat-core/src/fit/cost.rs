//! Cost of coding a run of cells by one point, in constant (L2) or logarithmic (L1) time.
//!
//! The cost of one bin is some 1e-4 (L1) or 1e-8 (L2) of the prefix sums it is a difference of, and a bin in the dense
//! part stands after sums a million times larger. Prefix sums and what is made of them are therefore double-double (106
//! bits), rounded to float64 when the cost is known: what is lost is 1e-29 of the prefix sums.

/// An unevaluated sum of two float64, `|low| <= ulp(high) / 2`.
#[derive(Debug, Clone, Copy, Default)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    /// Exact sum (Knuth's two-sum).
    fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let t = high - a;
        Self { high, low: (a - (high - t)) + (b - t) }
    }

    /// Exact product (Veltkamp's split, Dekker's product): the same on every machine, with or without fused
    /// multiply-add.
    fn product(a: f64, b: f64) -> Self {
        let split = |x: f64| {
            let t = 134_217_729.0 * x;
            let high = t - (t - x);
            (high, x - high)
        };
        let high = a * b;
        let ((ah, al), (bh, bl)) = (split(a), split(b));
        Self { high, low: ((ah * bh - high) + ah * bl + al * bh) + al * bl }
    }

    fn add(self, other: Self) -> Self {
        let s = Self::sum(self.high, other.high);
        let t = Self::sum(self.low, other.low);
        let u = Self::sum(s.high, s.low + t.high);
        Self::sum(u.high, u.low + t.low)
    }

    fn sub(self, other: Self) -> Self {
        self.add(Self { high: -other.high, low: -other.low })
    }

    fn mul(self, other: Self) -> Self {
        let p = Self::product(self.high, other.high);
        Self::sum(p.high, p.low + (self.high * other.low + self.low * other.high))
    }
}

/// The cost of coding the cells `i..j` by their best single point; concave Monge for both norms:
/// `cost(a, c) + cost(b, d) <= cost(a, d) + cost(b, c)` for `a <= b <= c <= d`.
pub(super) trait Cost {
    /// The number of cells.
    fn len(&self) -> usize;
    /// The cost of `i..j`, for `i < j <= len`.
    fn cost(&self, i: usize, j: usize) -> f64;
    /// The exponent `a` of the law `total cost ~ 1 / bins^a`.
    const DECAY: f64;
}

#[derive(Debug, Clone, Copy, Default)]
struct First {
    /// Sum of weights before the cell: an integer below 2^53, so exact.
    weight: f64,
    /// Value of the cell itself.
    value: f64,
    /// Sum of weight times value before the cell.
    moment: Double,
}

/// `sum w |x - m|` with the weighted median `m`.
#[derive(Debug)]
pub(super) struct Absolute {
    before: Vec<First>,
}

impl Absolute {
    /// From values in ascending order and positive integer weights whose sum is below 2^53.
    pub(super) fn new(values: &[f32], weights: &[f64]) -> Self {
        let mut before = Vec::with_capacity(values.len() + 1);
        let mut next = First::default();
        for (&value, &weight) in values.iter().zip(weights) {
            next.value = f64::from(value);
            before.push(next);
            next.weight += weight;
            next.moment = next.moment.add(Double::product(weight, next.value));
        }
        before.push(next);
        Self { before }
    }

    /// The first cell of `i..j` at which the weight from `i` on reaches half of that of `i..j`.
    pub(super) fn median(&self, i: usize, j: usize) -> usize {
        let half = f64::midpoint(self.before[i].weight, self.before[j].weight);
        let (mut low, mut high) = (i, j - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.before[middle + 1].weight >= half {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

impl Cost for Absolute {
    const DECAY: f64 = 1.0;

    fn len(&self) -> usize {
        self.before.len() - 1
    }

    fn cost(&self, i: usize, j: usize) -> f64 {
        if j - i == 1 {
            return 0.0;
        }
        let middle = &self.before[self.median(i, j)];
        let (first, last) = (&self.before[i], &self.before[j]);
        // Left of the median and from it on. The sum is a small rest of large terms: rounded only at the end.
        let left =
            Double::product(middle.weight - first.weight, middle.value).sub(middle.moment.sub(first.moment));
        let right =
            last.moment.sub(middle.moment).sub(Double::product(last.weight - middle.weight, middle.value));
        left.add(right).high.max(0.0)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    weight: f64,
    moment: Double,
    square: Double,
}

/// `sum w (x - m)^2` with the weighted mean `m`.
#[derive(Debug)]
pub(super) struct Square {
    before: Vec<Second>,
}

impl Square {
    /// As [`Absolute::new`].
    pub(super) fn new(values: &[f32], weights: &[f64]) -> Self {
        let mut before = Vec::with_capacity(values.len() + 1);
        let mut next = Second::default();
        before.push(next);
        for (&value, &weight) in values.iter().zip(weights) {
            let value = f64::from(value);
            next.weight += weight;
            next.moment = next.moment.add(Double::product(weight, value));
            // The square of a float32 is exact in float64.
            next.square = next.square.add(Double::product(weight, value * value));
            before.push(next);
        }
        Self { before }
    }
}

impl Cost for Square {
    const DECAY: f64 = 2.0;

    fn len(&self) -> usize {
        self.before.len() - 1
    }

    fn cost(&self, i: usize, j: usize) -> f64 {
        if j - i == 1 {
            return 0.0;
        }
        let (first, last) = (&self.before[i], &self.before[j]);
        let weight = last.weight - first.weight;
        let moment = last.moment.sub(first.moment);
        let square = last.square.sub(first.square);
        let spread = square.mul(Double { high: weight, low: 0.0 }).sub(moment.mul(moment));
        (spread.high / weight).max(0.0)
    }
}
