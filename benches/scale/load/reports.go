package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What the Studies' pruners are. Hyperband compares at one step, to which a trainer comes when it loses.
var pruners = map[string]map[string]any{
	"none":      nil,
	"median":    {"median": map[string]any{}},
	"hyperband": {"hyperband": map[string]any{"minSteps": jump, "maxSteps": 10 * jump, "reductionFactor": 10}},
}

const jump = 10_000

// held is what was measured of trials that run for long.
type held struct {
	name             string
	created, running time.Duration
	ran              float64
	cores            map[string]float64
	memory           float64
	delays           []time.Duration
	lost             int
}

// reports measures how fast trials are started, and what their reports cost, and prints the table.
func reports(ctx context.Context, s settings) error {
	// All trials are there at once.
	s.parallelism = s.trials
	b, err := ready(ctx, s)
	if err != nil {
		return err
	}
	var results []*held
	for _, name := range append([]string{"bare"}, strings.Fields(s.pruners)...) {
		if _, known := pruners[name]; !known && name != "bare" {
			return fmt.Errorf("no pruner %s", name)
		}
		result, err := b.hold(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		results = append(results, result)
	}
	b.printHeld(results)
	return nil
}

func (b *bench) hold(ctx context.Context, name string) (*held, error) {
	if err := b.makeNamespace(ctx, name); err != nil {
		return nil, err
	}
	h := &held{name: name}
	var own *child
	var err error
	begin := time.Now()
	if name == "bare" {
		own, err = b.startBare(name)
	} else {
		own, err = b.startOperator(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	defer own.stop()
	if name != "bare" {
		begin = time.Now()
		if err := b.apply(ctx, name, pruners[name]); err != nil {
			return nil, err
		}
	}
	var failure error
	err = until(ctx, "end of the start", 10*time.Minute, func() bool {
		failure = errorOr(b.observer.problem(), own.problem())
		b.observer.with(name, func(side *side) {
			if h.created == 0 && side.created >= b.trials {
				h.created = time.Since(begin)
			}
			if side.running >= b.trials {
				h.running = time.Since(begin)
			}
		})
		return h.running > 0 || failure != nil
	})
	if err = errorOr(err, failure); err != nil {
		return nil, err
	}
	if name != "bare" {
		if err := b.watchReports(ctx, h, own.Process.Pid); err != nil {
			return nil, err
		}
	}
	own.stop()
	return h, b.clear(ctx, name)
}

// watchReports measures while all trials report, and one after the other loses.
func (b *bench) watchReports(ctx context.Context, h *held, pid int) error {
	b.kubelet.jump = 0
	if h.name == "hyperband" {
		b.kubelet.jump = jump
		// Nothing is stopped before there are ten to compare.
		b.kubelet.lose(h.name, 20, 5*time.Second)
	}
	// What the start has left to do is not measured.
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	length := time.Duration(b.seconds) * time.Second
	from := time.Now()
	if h.name != "none" {
		b.kubelet.lose(h.name, min(b.seconds, b.trials/4), length)
	}
	processes := b.processesWith("own", pid)
	first := take(processes)
	sum, n := 0, 0
	stop := every(100*time.Millisecond, func() {
		b.observer.with(h.name, func(side *side) { sum, n = sum+side.running, n+1 })
	})
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return ctx.Err()
	}
	stop()
	last := take(processes)
	h.ran, h.memory, h.cores = float64(sum)/float64(max(n, 1)), last.used["own"].memory, map[string]float64{}
	for process := range processes {
		h.cores[process] = (last.used[process].cpu - first.used[process].cpu) / last.at.Sub(first.at).Seconds()
	}
	b.observer.with(h.name, func(side *side) {
		for name, pod := range b.observer.pods {
			// The last second's may be on the way.
			if !strings.HasPrefix(name, h.name+"/") || pod.lost.Before(from) || last.at.Sub(pod.lost) < time.Second {
				continue
			}
			h.lost++
			if deleted := side.deleted[pod.job]; !deleted.IsZero() {
				h.delays = append(h.delays, deleted.Sub(pod.lost))
			}
		}
	})
	slices.Sort(h.delays)
	return b.observer.problem()
}

func (b *bench) printHeld(results []*held) {
	fmt.Printf("%d trials at once, a report every %s, %d s measured.\n\n|", b.trials, b.every, b.seconds)
	for _, h := range results {
		name := " pruner " + h.name
		if h.name == "bare" {
			name = " | bare loop"
		}
		fmt.Print(name, " |")
	}
	fmt.Println("\n|" + strings.Repeat("---|", len(results)+1))
	row := func(what string, cell func(*held) string) {
		fmt.Printf("| %s |", what)
		for _, h := range results {
			if h.name == "bare" && h.created == 0 {
				fmt.Print(" |")
				continue
			}
			fmt.Printf(" %s |", cell(h))
		}
		fmt.Println()
	}
	measured := func(what string, cell func(*held) string) {
		row(what, func(h *held) string {
			if h.name == "bare" {
				return ""
			}
			return cell(h)
		})
	}
	row("s until all Jobs are there", func(h *held) string { return fmt.Sprintf("%.1f", h.created.Seconds()) })
	row("s until all pods run", func(h *held) string { return fmt.Sprintf("%.1f", h.running.Seconds()) })
	measured("trainers running meanwhile", func(h *held) string { return fmt.Sprintf("%.1f", h.ran) })
	measured("cores of the operator", func(h *held) string { return fmt.Sprintf("%.3f", h.cores["own"]) })
	measured("cores of kube-apiserver", func(h *held) string { return fmt.Sprintf("%.3f", h.cores["kube-apiserver"]) })
	measured("memory of the operator, MiB", func(h *held) string { return fmt.Sprintf("%.0f", h.memory) })
	measured("trials that lost, and those of them that were stopped", func(h *held) string {
		return fmt.Sprintf("%d, %d", h.lost, len(h.delays))
	})
	measured("ms from the report to the Job's deletion: median, 9 of 10, most", func(h *held) string {
		n := len(h.delays)
		if n == 0 {
			return ""
		}
		ms := func(i int) int64 { return h.delays[i].Milliseconds() }
		return fmt.Sprintf("%d, %d, %d", ms(n/2), ms(n*9/10), ms(n-1))
	})
	fmt.Println()
}
