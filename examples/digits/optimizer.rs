//! What turns a gradient into a step: Adam or stochastic gradient descent, both with decoupled weight decay.

use crate::args::{Args, Method};

/// How slowly Adam's averages of the gradient and of its square move.
const BETAS: (f32, f32) = (0.9, 0.999);
/// Keeps Adam from dividing by zero.
const EPSILON: f32 = 1e-8;

pub struct Optimizer {
    learning_rate: f32,
    /// What is left of a parameter after a step's weight decay.
    kept: f32,
    state: State,
}

/// What is remembered from step to step, for each parameter.
enum State {
    Adam {
        mean: Vec<f32>,
        square: Vec<f32>,
        /// The betas to the power of the steps made.
        powers: (f32, f32),
    },
    Sgd {
        momentum: f32,
        velocity: Vec<f32>,
    },
}

impl Optimizer {
    pub fn new(args: &Args, parameters: usize) -> Self {
        let zeros = vec![0.0; parameters];
        let state = match args.optimizer {
            Method::Adam => State::Adam { mean: zeros.clone(), square: zeros, powers: (1.0, 1.0) },
            Method::Sgd => State::Sgd { momentum: args.momentum, velocity: zeros },
        };
        Self { learning_rate: args.learning_rate, kept: 1.0 - args.learning_rate * args.weight_decay, state }
    }

    /// Makes one step.
    pub fn update(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        let Self { learning_rate, kept, state } = self;
        let each = parameters.iter_mut().zip(gradient);
        match state {
            State::Adam { mean, square, powers } => {
                *powers = (powers.0 * BETAS.0, powers.1 * BETAS.1);
                // Both averages start at 0; these make up for it.
                let rate = *learning_rate / (1.0 - powers.0);
                let square_scale = (1.0 - powers.1).sqrt().recip();
                for (((parameter, &slope), mean), square) in each.zip(mean).zip(square) {
                    *mean += (1.0 - BETAS.0) * (slope - *mean);
                    *square += (1.0 - BETAS.1) * (slope * slope - *square);
                    *parameter = *kept * *parameter - rate * *mean / (square.sqrt() * square_scale + EPSILON);
                }
            }
            State::Sgd { momentum, velocity } => {
                for ((parameter, &slope), velocity) in each.zip(velocity) {
                    *velocity = *momentum * *velocity + slope;
                    *parameter = *kept * *parameter - *learning_rate * *velocity;
                }
            }
        }
    }
}
