package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// pod is one that has run.
type pod struct {
	job            string
	started, ended time.Time
	over           chan struct{}
	// From when its trainer reports what loses, and when the first such line was written.
	loses, lost time.Time
}

// side is what was seen in one namespace: of the bare loop, or of a Study.
type side struct {
	created, finished, failed, running int
	ended, deleted                     map[string]time.Time
	// Called when one more Job is finished.
	onFinished func(finished int)
}

// observer sees Jobs and pods as anyone outside does, by a watch of each.
type observer struct {
	lock  sync.Mutex
	pods  map[string]*pod
	sides map[string]*side
	err   error
}

func (o *observer) side(namespace string) *side {
	if o.sides[namespace] == nil {
		o.sides[namespace] = &side{ended: map[string]time.Time{}, deleted: map[string]time.Time{}, onFinished: func(int) {}}
	}
	return o.sides[namespace]
}

// with reads what was seen in a namespace.
func (o *observer) with(namespace string, read func(*side)) {
	o.lock.Lock()
	defer o.lock.Unlock()
	read(o.side(namespace))
}

// problem is why nothing is seen any more.
func (o *observer) problem() error {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.err
}

func (o *observer) start(ctx context.Context, client *kubernetes.Clientset) error {
	jobs, pods := client.BatchV1().Jobs(""), client.CoreV1().Pods("")
	none, err := jobs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, open := range []func(context.Context, metav1.ListOptions) (watch.Interface, error){jobs.Watch, pods.Watch} {
		go func() {
			err := follow(ctx, none.ResourceVersion, open, o.see)
			o.lock.Lock()
			defer o.lock.Unlock()
			o.err = err
		}()
	}
	return nil
}

func (o *observer) see(event watch.Event) {
	o.lock.Lock()
	defer o.lock.Unlock()
	now := time.Now()
	switch object := event.Object.(type) {
	case *batchv1.Job:
		side := o.side(object.Namespace)
		if event.Type == watch.Added {
			side.created++
		}
		if side.deleted[object.Name].IsZero() && (event.Type == watch.Deleted || object.DeletionTimestamp != nil) {
			side.deleted[object.Name] = now
		}
		if side.ended[object.Name].IsZero() && finished(object) {
			side.ended[object.Name] = now
			side.finished++
			if object.Status.Succeeded == 0 {
				side.failed++
			}
			side.onFinished(side.finished)
		}
	case *corev1.Pod:
		name := object.Namespace + "/" + object.Name
		seen := o.pods[name]
		is := event.Type != watch.Deleted && object.Status.Phase == corev1.PodRunning
		switch {
		case is && seen == nil:
			o.pods[name] = &pod{job: object.Labels[batchv1.JobNameLabel], started: now, over: make(chan struct{})}
			o.side(object.Namespace).running++
		case !is && seen != nil && seen.ended.IsZero():
			seen.ended = now
			close(seen.over)
			o.side(object.Namespace).running--
		}
	}
}

// usage is what a process has used of the CPU, in seconds, and its memory, in MiB.
type usage struct{ cpu, memory float64 }

func used(pid int) usage {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}
	}
	// The name, which comes second, may have anything in it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(fields[i], 64)
		return n
	}
	// Linux tells times in hundredths of a second, on every architecture.
	return usage{(number(11) + number(12)) / 100, number(21) * float64(os.Getpagesize()) / (1 << 20)}
}

// sample is the usage of all processes at a moment.
type sample struct {
	at   time.Time
	used map[string]usage
}

func take(processes map[string]int) sample {
	s := sample{time.Now(), map[string]usage{}}
	for name, pid := range processes {
		s.used[name] = used(pid)
	}
	return s
}
