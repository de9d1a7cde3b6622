{{/* The chart's name. */}}
{{- define "sweep-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the objects: a DNS label of at most 63 characters, however long the release's name is. */}}
{{- define "sweep-operator.fullname" -}}
{{- $name := include "sweep-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The same with a suffix, which is never cut off: (list $ "-metrics"). */}}
{{- define "sweep-operator.named" -}}
{{- $suffix := index . 1 -}}
{{- printf "%s%s" (include "sweep-operator.fullname" (index . 0) | trunc (sub 63 (len $suffix) | int) | trimSuffix "-") $suffix -}}
{{- end -}}

{{- define "sweep-operator.serviceAccountName" -}}
{{- default (ternary (include "sweep-operator.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* What a Deployment selects can never change: nothing of it may depend on a version. */}}
{{- define "sweep-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sweep-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. */}}
{{- define "sweep-operator.labels" -}}
{{- $ours := dict
  "app.kubernetes.io/name" (include "sweep-operator.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63) -}}
{{- merge $ours .Values.commonLabels (dict "app.kubernetes.io/part-of" "sweep-operator") | toYaml -}}
{{- end -}}

{{/* Name and labels of an object; the labels come last, so that more can follow. Of the namespace, where one is given:
(list $ NAME NAMESPACE). */}}
{{- define "sweep-operator.metadata" -}}
name: {{ index . 1 | quote }}
{{- if gt (len .) 2 }}
namespace: {{ index . 2 | quote }}
{{- end }}
labels:
  {{- include "sweep-operator.labels" (index . 0) | nindent 2 }}
{{- end -}}

{{/* The one to whom a binding gives its role. */}}
{{- define "sweep-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "sweep-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}

{{/* registry/repository:tag@digest of (dict "registry" … "repository" … "tag" … "digest" …). */}}
{{- define "sweep-operator.imageRef" -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .tag }}:{{ .tag }}{{ end }}
{{- if .digest }}@{{ .digest }}{{ end }}
{{- end -}}

{{- define "sweep-operator.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default (ternary "" .Chart.AppVersion (ne $image.digest "")) -}}
{{- include "sweep-operator.imageRef" (dict "registry" $image.registry "repository" $image.repository "tag" $tag "digest" $image.digest) -}}
{{- end -}}

{{/* The operator's own image, but for what is said of the sidecar's. */}}
{{- define "sweep-operator.sidecarImage" -}}
{{- $own := .Values.sidecar.image -}}
{{- $image := .Values.image -}}
{{- $digest := $own.digest | default (ternary "" $image.digest (ne $own.tag "")) -}}
{{- $tag := $own.tag | default (ternary "" $image.tag (ne $own.digest "")) | default (ternary "" .Chart.AppVersion (ne $digest "")) -}}
{{- include "sweep-operator.imageRef" (dict
  "registry" ($own.registry | default $image.registry)
  "repository" ($own.repository | default $image.repository)
  "tag" $tag "digest" $digest) -}}
{{- end -}}

{{/* What the operator does with Studies, Trials and their Jobs, wherever it serves them: docs/permissions.md. */}}
{{- define "sweep-operator.rules" -}}
- apiGroups: [sweep-operator.dev]
  resources: [studies]
  verbs: [get, list, watch]
- apiGroups: [sweep-operator.dev]
  resources: [trials]
  verbs: [get, list, watch, create, patch]
- apiGroups: [sweep-operator.dev]
  resources: [studies/status, trials/status]
  verbs: [patch]
- apiGroups: [sweep-operator.dev]
  resources: [studies/finalizers, trials/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.bestConfigMap.enabled }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}

{{/* The Service's name, and so the value of Prometheus' label `job`. */}}
{{- define "sweep-operator.metricsName" -}}
{{- include "sweep-operator.named" (list . "-metrics") -}}
{{- end -}}

{{/* What selects this operator's metrics in a query. */}}
{{- define "sweep-operator.selector" -}}
{{- default (printf "job=%q, namespace=%q" (include "sweep-operator.metricsName" .) .Release.Namespace) .Values.prometheusRule.selector -}}
{{- end -}}

{{/* The labels of an alert: (list .Values.prometheusRule SEVERITY). */}}
{{- define "sweep-operator.severity" -}}
{{- merge (dict "severity" (index . 1)) (index . 0).alertLabels | toYaml -}}
{{- end -}}
