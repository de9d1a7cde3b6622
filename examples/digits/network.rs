//! A multilayer perceptron: layers with ReLU between them, softmax cross entropy at the end.

use crate::data::Sample;
use crate::random::Random;

/// Sums are kept in so many parts, which the processor can work on at once.
const LANES: usize = 8;

pub struct Network {
    layers: Vec<Layer>,
    /// Of all layers, one after the other: an optimizer needs to know nothing of layers.
    parameters: Vec<f32>,
    /// As `parameters`.
    gradient: Vec<f32>,
    /// The outputs of each layer for the sample at hand.
    outputs: Vec<Vec<f32>>,
    /// How the loss changes with each layer's outputs.
    deltas: Vec<Vec<f32>>,
}

/// Where a layer's parameters are: for each input a row with one weight per output, then a row of biases.
struct Layer {
    start: usize,
    inputs: usize,
    outputs: usize,
}

impl Layer {
    fn len(&self) -> usize {
        (self.inputs + 1) * self.outputs
    }

    /// This layer's part of all parameters: the weights and the biases.
    fn of<'a>(&self, all: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        all[self.start..][..self.len()].split_at(self.inputs * self.outputs)
    }

    fn of_mut<'a>(&self, all: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        all[self.start..][..self.len()].split_at_mut(self.inputs * self.outputs)
    }
}

impl Network {
    /// A network with `depth` hidden layers of `width` units, initialised as He et al. (2015) do for ReLU.
    pub fn new(inputs: usize, width: usize, depth: usize, classes: usize, random: &mut Random) -> Self {
        let mut sizes = vec![inputs];
        sizes.extend(std::iter::repeat_n(width, depth));
        sizes.push(classes);

        let mut layers = Vec::new();
        let mut parameters = Vec::new();
        for (&inputs, &outputs) in sizes.iter().zip(&sizes[1..]) {
            layers.push(Layer { start: parameters.len(), inputs, outputs });
            let limit = (6.0 / inputs as f32).sqrt();
            parameters.extend((0..inputs * outputs).map(|_| limit * random.symmetric()));
            parameters.extend(std::iter::repeat_n(0.0, outputs));
        }
        let buffers: Vec<Vec<f32>> = sizes[1..].iter().map(|&size| vec![0.0; size]).collect();
        Self { gradient: vec![0.0; parameters.len()], outputs: buffers.clone(), deltas: buffers, layers, parameters }
    }

    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The digit that the network sees, and the loss: how surprised it is by the right one.
    pub fn classify(&mut self, sample: &Sample) -> (usize, f32) {
        let scores = self.forward(sample);
        let guess = (0..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best });
        // Relative to the highest score, so that no exponential overflows.
        let highest = scores[guess];
        let sum: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
        (guess, sum.ln() + highest - scores[sample.label])
    }

    /// The parameters, and the gradient there of the batch's mean loss.
    pub fn gradient(&mut self, batch: &[Sample]) -> (&mut [f32], &[f32]) {
        self.gradient.fill(0.0);
        for sample in batch {
            self.forward(sample);
            self.backward(sample, 1.0 / batch.len() as f32);
        }
        (&mut self.parameters, &self.gradient)
    }

    /// Fills `outputs`; returns the last layer's.
    fn forward<'a>(&'a mut self, sample: &'a Sample) -> &'a [f32] {
        let last = self.layers.len() - 1;
        let mut input = &sample.pixels[..];
        for (index, (layer, output)) in self.layers.iter().zip(&mut self.outputs).enumerate() {
            let (weights, biases) = layer.of(&self.parameters);
            output.copy_from_slice(biases);
            for (&value, row) in input.iter().zip(weights.chunks_exact(layer.outputs)) {
                // Half of all pixels and units are 0.
                if value != 0.0 {
                    add_scaled(output, value, row);
                }
            }
            if index != last {
                // Not `max(0.0)`, which would hide that training diverged: it turns NaN into 0.
                output.iter_mut().filter(|unit| **unit < 0.0).for_each(|unit| *unit = 0.0);
            }
            input = output;
        }
        input
    }

    /// Adds the sample's share to `gradient`, after `forward`.
    fn backward(&mut self, sample: &Sample, share: f32) {
        let last = self.layers.len() - 1;
        softmax(&self.outputs[last], &mut self.deltas[last]);
        self.deltas[last][sample.label] -= 1.0;
        self.deltas[last].iter_mut().for_each(|delta| *delta *= share);

        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, rest) = self.deltas.split_at_mut(index);
            let delta = &rest[0];
            let (weights, _) = layer.of(&self.parameters);
            let (weight_gradient, bias_gradient) = layer.of_mut(&mut self.gradient);
            add_scaled(bias_gradient, 1.0, delta);

            let input = if index == 0 { &sample.pixels[..] } else { &self.outputs[index - 1] };
            for (&value, row) in input.iter().zip(weight_gradient.chunks_exact_mut(layer.outputs)) {
                if value != 0.0 {
                    add_scaled(row, value, delta);
                }
            }
            if let Some(input_delta) = before.last_mut() {
                let rows = weights.chunks_exact(layer.outputs);
                for ((slot, &value), row) in input_delta.iter_mut().zip(input).zip(rows) {
                    // A unit that ReLU holds at 0 does not react.
                    *slot = if value == 0.0 { 0.0 } else { dot(row, delta) };
                }
            }
        }
    }
}

fn softmax(scores: &[f32], probabilities: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (probability, score) in probabilities.iter_mut().zip(scores) {
        *probability = (score - highest).exp();
    }
    let sum: f32 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|probability| *probability /= sum);
}

/// `target += factor * row`.
fn add_scaled(target: &mut [f32], factor: f32, row: &[f32]) {
    for (target, value) in target.iter_mut().zip(row) {
        *target += factor * value;
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{CLASSES, PIXELS, load};

    #[test]
    fn the_gradient_is_how_the_loss_changes() {
        let samples = load().expect("the embedded data is sound").validation;
        let batch = &samples[..4];
        let mut network = Network::new(PIXELS, 9, 2, CLASSES, &mut Random::new(1));
        let gradient = network.gradient(batch).1.to_vec();
        let mut loss_with = |index: usize, change: f32| {
            let before = network.parameters[index];
            network.parameters[index] = before + change;
            let sum: f32 = batch.iter().map(|sample| network.classify(sample).1).sum();
            network.parameters[index] = before;
            sum / batch.len() as f32
        };
        let loss = loss_with(0, 0.0);
        for (index, &slope) in gradient.iter().enumerate() {
            // To one side at least: ReLU has a kink, which a change to the other side may cross.
            let slopes = [1e-3, -1e-3].map(|change| (loss_with(index, change) - loss) / change);
            let fits = slopes.iter().any(|measured| (measured - slope).abs() < 3e-3);
            assert!(fits, "parameter {index}: {slope}, but measured {slopes:?}");
        }
    }
}
