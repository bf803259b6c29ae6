{{/* A StatefulSet's name, which ends with `-agent`, has 52 characters at most: its pods have it in a label, with a hash. */}}
{{- define "punctual.name" -}}
{{ .Release.Name | trunc 46 | trimSuffix "-" }}
{{- end }}

{{- define "punctual.secret" -}}
{{ .Values.secrets.existing | default (include "punctual.name" .) }}
{{- end }}

{{/* Labels that select the pods of a part: (list $ "agent") */}}
{{- define "punctual.selector" -}}
app.kubernetes.io/name: punctual
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "punctual.labels" -}}
{{ include "punctual.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{/* An environment variable from the secret: (list $ "BATCH_API_KEY") */}}
{{- define "punctual.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom: { secretKeyRef: { name: {{ include "punctual.secret" (index . 0) }}, key: {{ index . 1 }} } }
{{- end }}

{{/* What both pods have in common: (list $ "agent") */}}
{{- define "punctual.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
# Both programs end within 20 s of SIGTERM.
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "punctual.selector" . | nindent 8 }}
{{- end }}

{{/* What both containers have in common: (list $ port) */}}
{{- define "punctual.container" -}}
image: {{ with (index . 0) }}{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion | toString) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}{{ end }}
ports:
  - { name: http, containerPort: {{ index . 1 }} }
# A new version may first move the rows of a large store.
startupProbe:
  httpGet: { path: /health/live, port: http }
  periodSeconds: 2
  failureThreshold: 1800
# A restart does not help when a store is full or locked, so that is what readiness says.
livenessProbe:
  httpGet: { path: /health/live, port: http }
  timeoutSeconds: 5
readinessProbe:
  httpGet: { path: /health/ready, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Service and disruption budget of a part: (list $ "agent" port) */}}
{{- define "punctual.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "punctual.name" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "punctual.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "punctual.selector" . | nindent 4 }}
  ports:
    - { name: http, port: {{ index . 2 }}, targetPort: http }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "punctual.name" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "punctual.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "punctual.selector" . | nindent 6 }}
{{- end }}
