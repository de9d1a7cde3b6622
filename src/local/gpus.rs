//! The GPUs of this machine that trials may use.

/// A list of GPUs, each handed to at most one trial at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpus {
    /// The names in the user's order, and whether each is free.
    all: Vec<(String, bool)>,
}

impl Gpus {
    /// The GPUs of a list such as `0,1,3`: what `CUDA_VISIBLE_DEVICES` takes, indices or UUIDs.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn new(names: &[String]) -> Result<Gpus, String> {
        let mut all: Vec<(String, bool)> = Vec::new();
        for name in names.iter().map(|name| name.trim()) {
            if name.is_empty() {
                return Err("has an empty entry: write for example 0,1,2,3".to_owned());
            }
            if all.iter().any(|(known, _)| known == name) {
                return Err(format!("lists {name} twice: two trials would share it"));
            }
            all.push((name.to_owned(), true));
        }
        Ok(Gpus { all })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Takes `count` free ones, the first of the list. None, and nothing is taken, where fewer are free.
    pub fn take(&mut self, count: usize) -> Option<Vec<String>> {
        if self.all.iter().filter(|(_, free)| *free).count() < count {
            return None;
        }
        let free = self.all.iter_mut().filter(|(_, free)| *free).take(count);
        let taken = free.map(|(name, free)| {
            *free = false;
            name.clone()
        });
        Some(taken.collect())
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, names: &[String]) {
        for (_, free) in self.all.iter_mut().filter(|(name, _)| names.contains(name)) {
            *free = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_gpu_is_with_one_trial_at_a_time_and_the_first_free_ones_are_taken() {
        let mut gpus = Gpus::new(&list("0, 1,GPU-5e,3")).unwrap();
        assert_eq!(gpus.count(), 4);
        assert_eq!(gpus.take(2).unwrap(), ["0", "1"]);
        assert_eq!(gpus.take(3), None);
        assert_eq!(gpus.take(2).unwrap(), ["GPU-5e", "3"]);
        assert_eq!(gpus.take(1), None);
        gpus.give_back(&list("1,GPU-5e"));
        assert_eq!(gpus.take(1).unwrap(), ["1"]);
        assert_eq!(gpus.take(1).unwrap(), ["GPU-5e"]);
        assert_eq!(gpus.take(1), None);
    }

    #[test]
    fn a_list_with_a_gpu_twice_or_an_empty_entry_is_refused() {
        for (text, says) in [("0,0", "0 twice"), ("0,,1", "empty entry"), ("", "empty entry")] {
            let message = Gpus::new(&list(text)).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }
}
