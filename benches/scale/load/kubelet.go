package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// kubelet serves the logs of all pods: a line that reports at every interval of a pod's life. As a real one does, it goes
// on where `sinceTime` says, and ends a log that is followed when the pod has ended.
type kubelet struct {
	observer *observer
	every    time.Duration
	// What loses comes to this step at once, for pruners that compare at some only.
	jump  int
	began time.Time
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(path) != 4 || path[0] != "containerLogs" {
		http.Error(w, "only /containerLogs is served", http.StatusNotFound)
		return
	}
	var pod *pod
	find := func() bool {
		k.observer.lock.Lock()
		defer k.observer.lock.Unlock()
		pod = k.observer.pods[path[1]+"/"+path[2]]
		return pod != nil
	}
	// Who asks may have seen the pod start before we have.
	if until(r.Context(), "pod", 2*time.Second, find) != nil {
		http.Error(w, "no such pod", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	follow, stamped := query.Get("follow") == "true", query.Get("timestamps") == "true"
	line := 0
	if since, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil && since.After(pod.started) {
		line = int((since.Sub(pod.started) + k.every - 1) / k.every)
	}
	if seconds, err := strconv.Atoi(query.Get("sinceSeconds")); err == nil {
		line = max(line, int((time.Since(pod.started)-time.Duration(seconds)*time.Second)/k.every)+1)
	}
	if tail, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		line = max(line, k.written(pod, time.Now())-tail)
	}
	w.WriteHeader(http.StatusOK)
	for ; ; line++ {
		due := pod.started.Add(time.Duration(line) * k.every)
		if wait := time.Until(due); wait > 0 {
			if !follow {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(wait):
			case <-pod.over:
			case <-r.Context().Done():
				return
			}
		}
		if line >= k.written(pod, time.Now()) {
			return
		}
		stamp := ""
		if stamped {
			stamp = due.UTC().Format(time.RFC3339Nano) + " "
		}
		if _, err := fmt.Fprintln(w, stamp+k.report(pod, line, due)); err != nil {
			return
		}
	}
}

// written is how many lines a pod has written at a time.
func (k *kubelet) written(pod *pod, now time.Time) int {
	k.observer.lock.Lock()
	defer k.observer.lock.Unlock()
	if !pod.ended.IsZero() {
		now = pod.ended
	}
	return int(now.Sub(pod.started)/k.every) + 1
}

// report is a line. All trials are as good, until one of them loses.
func (k *kubelet) report(pod *pod, line int, due time.Time) string {
	k.observer.lock.Lock()
	defer k.observer.lock.Unlock()
	step, loss := line+1, 1/float64(line+1)
	if !pod.loses.IsZero() && !due.Before(pod.loses) {
		if k.jump > 0 {
			// The first line that loses is at the step itself: what came before is what counts there otherwise.
			step = k.jump + int(due.Sub(pod.loses)/k.every)
		}
		// Who loses later is worse, and so the last of those that have come to that step.
		loss = 10 + float64(pod.loses.Sub(k.began).Milliseconds())/1000
		if pod.lost.IsZero() {
			pod.lost = time.Now()
		}
	}
	return fmt.Sprintf("epoch %d: loss=%.4f", step, loss)
}

// lose lets the trainers of `count` pods lose one after the other within a time from now.
func (k *kubelet) lose(namespace string, count int, within time.Duration) {
	k.observer.lock.Lock()
	defer k.observer.lock.Unlock()
	now, i := time.Now(), 0
	for name, pod := range k.observer.pods {
		if i < count && strings.HasPrefix(name, namespace+"/") && pod.ended.IsZero() && pod.loses.IsZero() {
			i++
			pod.loses = now.Add(within * time.Duration(i) / time.Duration(count))
		}
	}
}

func (k *kubelet) start(ctx context.Context, address string) error {
	_, err := serve(ctx, address, k)
	return err
}
