{{- /* What web, workers and migrations have in common. */ -}}

{{- define "triggerapp.labels" -}}
app.kubernetes.io/name: triggerapp
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "triggerapp.image" -}}
image: "{{ .Values.image.repository }}:{{ or .Values.image.tag .Chart.AppVersion }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "triggerapp.unprivileged" -}}
securityContext:
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
            seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "triggerapp.environment" -}}
envFrom:
            - secretRef: {name: {{ quote .Values.secret }}}
          env:
            - {name: DJANGO_ALLOWED_HOSTS, value: {{ printf "localhost,%s" .Values.web.allowedHosts | trimSuffix "," | quote }}}
            - {name: TRIGGERAPP_BASE_URL, value: {{ quote .Values.web.baseUrl }}}
            - {name: TRIGGERAPP_CHECKPOINT, value: {{ quote .Values.checkpoint.mode }}}
            - {name: TRIGGERAPP_CHECKPOINT_STORE, value: {{ quote .Values.checkpoint.store }}}
            {{- range $name, $value := .Values.environment }}
            - {name: {{ $name }}, value: {{ quote $value }}}
            {{- end }}
{{- end -}}

{{- define "triggerapp.resources" -}}
resources:
            {{- range $kind, $amounts := . }}
            {{ $kind }}:
              {{- range $name, $amount := $amounts }}
              {{ $name }}: {{ quote $amount }}
              {{- end }}
            {{- end }}
{{- end -}}
