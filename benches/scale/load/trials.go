package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const tenths = 10

// result is what was measured of one side.
type result struct {
	name string
	// At the start, and after each tenth of the trials; the last is the end.
	samples []sample
	// Once the garbage collector has done what the trials have left it, which it may be minutes behind.
	done    sample
	running []point
	failed  int
	kinds   map[string]count
	looks   []time.Time
	lists   int
	left    map[string]int
	// The memory of the side's own process once all is recorded.
	memory float64
}

// point is how many pods ran at a moment.
type point struct {
	at time.Time
	n  int
}

// trials measures one side after the other, and prints the table.
func trials(ctx context.Context, s settings) error {
	b, err := ready(ctx, s)
	if err != nil {
		return err
	}
	var results []*result
	for _, namespace := range []string{"bare", "operator"} {
		result, err := b.measure(ctx, namespace)
		if err != nil {
			return fmt.Errorf("%s: %w", namespace, err)
		}
		results = append(results, result)
		// The other side finds the cluster as empty.
		if err := b.clear(ctx, namespace); err != nil {
			return err
		}
	}
	b.print(results[0], results[1])
	return nil
}

func (b *bench) measure(ctx context.Context, namespace string) (*result, error) {
	if err := b.makeNamespace(ctx, namespace); err != nil {
		return nil, err
	}
	r := &result{name: namespace, left: map[string]int{}}
	var own *child
	var err error
	if namespace == "operator" {
		if own, err = b.startOperator(ctx, namespace); err != nil {
			return nil, err
		}
		defer own.stop()
	}
	var processes map[string]int
	begin := func(pid int) {
		processes = b.processesWith("own", pid)
		b.counter.reset()
		r.samples = append(r.samples, take(processes))
	}
	progress := time.Now()
	var now int
	b.observer.with(namespace, func(side *side) {
		side.onFinished = func(finished int) {
			now, progress = finished, time.Now()
			for len(r.samples) <= tenths && finished >= b.trials*len(r.samples)/tenths {
				r.samples = append(r.samples, take(processes))
			}
		}
	})
	if own != nil {
		begin(own.Process.Pid)
		if err := b.apply(ctx, namespace, nil); err != nil {
			return nil, err
		}
	} else {
		if own, err = b.startBare(namespace); err != nil {
			return nil, err
		}
		defer own.stop()
		begin(own.Process.Pid)
	}
	stop := every(100*time.Millisecond, func() {
		b.observer.with(namespace, func(side *side) { r.running = append(r.running, point{time.Now(), side.running}) })
	})
	var failure error
	err = until(ctx, "end", 24*time.Hour, func() bool {
		failure = errorOr(b.observer.problem(), own.problem())
		over := false
		b.observer.with(namespace, func(*side) {
			over = now >= b.trials
			if !over && time.Since(progress) > 2*time.Minute {
				failure = fmt.Errorf("no Job was finished for two minutes; %d are", now)
			}
		})
		return over || failure != nil
	})
	stop()
	if err = errorOr(err, failure); err != nil {
		return nil, err
	}
	if namespace == "operator" {
		succeeded := 0
		err := until(ctx, "Study that is complete", 2*time.Minute, func() (is bool) {
			is, succeeded = b.complete(ctx, namespace)
			return is
		})
		if err != nil {
			return nil, err
		}
		r.failed = b.trials - succeeded
		r.memory = used(own.Process.Pid).memory
	} else {
		b.observer.with(namespace, func(side *side) { r.failed = side.failed })
	}
	// What comes after the last trial belongs to it, too; Events are written late.
	time.Sleep(3 * time.Second)
	path := func(path string) string { return fmt.Sprintf(path, namespace) }
	err = until(ctx, "end of the garbage collection", 10*time.Minute, func() bool {
		return b.left(ctx, path("/api/v1/namespaces/%s/pods")) <= b.left(ctx, path("/apis/batch/v1/namespaces/%s/jobs"))
	})
	if err != nil {
		return nil, err
	}
	r.done = take(processes)
	r.kinds, r.looks, r.lists = b.counter.reset()
	for name, of := range map[string]string{
		"Jobs": "/apis/batch/v1/namespaces/%s/jobs", "pods": "/api/v1/namespaces/%s/pods", "Events": "/api/v1/namespaces/%s/events",
		"Trials": "/apis/sweep-operator.dev/v1alpha1/namespaces/%s/trials",
	} {
		r.left[name] = b.left(ctx, path(of))
	}
	return r, nil
}

func errorOr(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

// rate is of the Jobs finished between two tenths.
func (r *result) rate(trials, from, to int) float64 {
	jobs := trials*to/tenths - trials*from/tenths
	return float64(jobs) / r.samples[to].at.Sub(r.samples[from].at).Seconds()
}

// cpu is of a process between two tenths, in ms a trial.
func (r *result) cpu(process string, trials, from, to int) float64 {
	jobs := trials*to/tenths - trials*from/tenths
	return 1000 * (r.samples[to].used[process].cpu - r.samples[from].used[process].cpu) / float64(jobs)
}

// whole is the CPU of a process for all that the trials have brought, in ms a trial.
func (r *result) whole(process string, trials int) float64 {
	return 1000 * (r.done.used[process].cpu - r.samples[0].used[process].cpu) / float64(trials)
}

// all is the CPU of all processes but ours that measures.
func (r *result) all(trials int) float64 {
	sum := 0.0
	for process := range r.samples[0].used {
		if process != "load" {
			sum += r.whole(process, trials)
		}
	}
	return sum
}

// ran is how many pods ran on the average of the middle 60 %.
func (r *result) ran() float64 {
	sum, n := 0, 0
	for _, point := range r.running {
		if point.at.After(r.samples[2].at) && point.at.Before(r.samples[8].at) {
			sum, n = sum+point.n, n+1
		}
	}
	return float64(sum) / float64(max(n, 1))
}

// each is one number for each tenth.
func each(format string, of func(from, to int) float64) string {
	var cells []string
	for i := range tenths {
		cells = append(cells, fmt.Sprintf(format, of(i, i+1)))
	}
	return strings.Join(cells, " ")
}

// most is the most looks in one second.
func most(looks []time.Time) int {
	most, first := 0, 0
	for i, look := range looks {
		for look.Sub(looks[first]) > time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// sum adds up the kinds of calls that are meant.
func sum(kinds map[string]count, meant func(verb, resource string) bool) (total count) {
	for kind, n := range kinds {
		verb, resource, _ := strings.Cut(kind, " ")
		if meant(verb, resource) {
			total = count{total.calls + n.calls, total.sent + n.sent, total.received + n.received}
		}
	}
	return total
}

func writes(verb, _ string) bool {
	return slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, verb)
}
func watches(verb, _ string) bool  { return verb == "WATCH" }
func logs(_, resource string) bool { return strings.HasPrefix(resource, "pods/log") }
func reads(verb, resource string) bool {
	return (verb == "GET" || verb == "LIST") && !logs(verb, resource)
}

func (b *bench) print(bare, operator *result) {
	n := b.trials
	row := func(what string, cell func(*result) string) {
		fmt.Printf("| %s | %s | %s | |\n", what, cell(bare), cell(operator))
	}
	compare := func(what, format string, number func(*result) float64) {
		one, other := number(bare), number(operator)
		fmt.Printf("| %s | "+format+" | "+format+" | %.2f |\n", what, one, other, other/one)
	}
	history := fmt.Sprint(b.history)
	if b.history < 0 {
		history = "all"
	}
	fmt.Printf("%d trials, %d at once, pods of %s with a report every %s, sampler %s; %s finished Jobs are kept, for %d s.\n\n",
		n, b.parallelism, b.life, b.every, b.sampler, history, b.ttl)
	fmt.Println("| | bare loop | operator | ratio |\n|---|---|---|---|")
	compare("Jobs per second, whole run", "%.2f", func(r *result) float64 { return r.rate(n, 0, tenths) })
	compare("Jobs per second, middle 60 %", "%.2f", func(r *result) float64 { return r.rate(n, 2, 8) })
	compare("late rate over early rate", "%.2f", func(r *result) float64 { return r.rate(n, 7, 9) / r.rate(n, 1, 3) })
	row("Jobs per second, each tenth", func(r *result) string {
		return each("%.1f", func(from, to int) float64 { return r.rate(n, from, to) })
	})
	compare(fmt.Sprintf("trainers running, of %d", b.parallelism), "%.1f", (*result).ran)
	row("CPU of loop or operator, ms a trial, each tenth", func(r *result) string {
		return each("%.1f", func(from, to int) float64 { return r.cpu("own", n, from, to) })
	})
	row("CPU of kube-apiserver, ms a trial, each tenth", func(r *result) string {
		return each("%.0f", func(from, to int) float64 { return r.cpu("kube-apiserver", n, from, to) })
	})
	compare("CPU of all, ms a trial", "%.1f", func(r *result) float64 { return r.all(n) })
	for _, process := range []string{"own", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		name := process
		if process == "own" {
			name = "loop or operator"
		}
		compare("– "+name, "%.1f", func(r *result) float64 { return r.whole(process, n) })
	}
	compare("– what measures, not in the sum", "%.1f", func(r *result) float64 { return r.whole("load", n) })
	row("memory of loop or operator, MiB, each tenth", func(r *result) string {
		return each("%.0f", func(_, to int) float64 { return r.samples[to].used["own"].memory })
	})
	row("memory at the end, MiB", func(r *result) string {
		if r.memory == 0 {
			return ""
		}
		return fmt.Sprintf("%.0f", r.memory)
	})
	if b.counted {
		b.printCalls(bare, operator)
	}
	for _, what := range []string{"Events", "Jobs", "pods", "Trials"} {
		row(what+" left", func(r *result) string { return fmt.Sprint(r.left[what]) })
	}
	row("trials that failed", func(r *result) string { return fmt.Sprint(r.failed) })
	fmt.Println()
}

func (b *bench) printCalls(bare, operator *result) {
	per := func(n int64) float64 { return float64(n) / float64(b.trials) }
	row := func(what string, cell func(*result) string) {
		fmt.Printf("| %s | %s | %s | |\n", what, cell(bare), cell(operator))
	}
	all := func(string, string) bool { return true }
	row("API calls a trial, and writes of them", func(r *result) string {
		return fmt.Sprintf("%.1f, %.1f", per(sum(r.kinds, all).calls), per(sum(r.kinds, writes).calls))
	})
	row("– by verb and resource", func(r *result) string {
		var kinds []string
		for kind := range r.kinds {
			kinds = append(kinds, kind)
		}
		slices.SortFunc(kinds, func(a, b string) int {
			if difference := r.kinds[b].calls - r.kinds[a].calls; difference != 0 {
				return int(difference)
			}
			return strings.Compare(a, b)
		})
		var cells []string
		for _, kind := range kinds {
			if per := per(r.kinds[kind].calls); per >= 0.005 {
				cells = append(cells, fmt.Sprintf("%s %.2f", kind, per))
			}
		}
		return strings.Join(cells, "; ")
	})
	kib := func(n int64) float64 { return per(n) / 1024 }
	row("KiB a trial: read by GET and LIST", func(r *result) string { return fmt.Sprintf("%.1f", kib(sum(r.kinds, reads).received)) })
	row("– by watches", func(r *result) string { return fmt.Sprintf("%.1f", kib(sum(r.kinds, watches).received)) })
	row("– logs", func(r *result) string { return fmt.Sprintf("%.1f", kib(sum(r.kinds, logs).received)) })
	row("– sent with writes, and their answers", func(r *result) string {
		w := sum(r.kinds, writes)
		return fmt.Sprintf("%.1f, %.1f", kib(w.sent), kib(w.received))
	})
	row("LISTs a second", func(r *result) string {
		return fmt.Sprintf("%.1f", float64(r.lists)/r.samples[tenths].at.Sub(r.samples[0].at).Seconds())
	})
	row("live looks (LISTs of Trials) a second, and the most in one", func(r *result) string {
		return fmt.Sprintf("%.1f, %d", float64(len(r.looks))/r.samples[tenths].at.Sub(r.samples[0].at).Seconds(), most(r.looks))
	})
	row("KiB read by GET and LIST, for each place and look", func(r *result) string {
		if len(r.looks) == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f", float64(sum(r.kinds, reads).received)/1024/float64(b.parallelism*len(r.looks)))
	})
}
