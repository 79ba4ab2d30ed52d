"""The four dashboards. Every name and label in here stands in common/metrics.toml (tests/deploy/table_test.py)."""

from panels import Dashboard, Row, panel, quantiles, rate, ratio

FAILED = '{code=~"INTERNAL|UNAVAILABLE|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"}'

OVERVIEW = Dashboard("coterie-overview", "Coterie: overview", "Are people answered, how soon, and what stands in the way.", (
    Row("Now", (
        panel("Running", "short", "Requests admitted and not ended.", ("sum(coterie_requests_running)", ""), kind="stat", width=4, height=4),
        panel("Waiting", "short", "Requests waiting for admission. Above 0 for long: too few workers.",
              ("sum(coterie_requests_waiting)", ""), kind="stat", width=4, height=4),
        panel("Workers ready", "short", "As the gateways see them, the most of any gateway.",
              ('max(coterie_workers{health="ready"})', ""), kind="stat", width=4, height=4),
        panel("Answers that failed", "percentunit", "Of the requests that ended: server's faults, without refusals of bad requests and clients that left.",
              (ratio(f"({rate('coterie_requests_total', selector=FAILED)}) or vector(0)", rate("coterie_requests_total")), ""), kind="stat", width=4, height=4),
        panel("First token, p95", "s", "From the request's acceptance to its first token.",
              quantiles("coterie_time_to_first_token_seconds", of=(0.95,))[0], kind="stat", width=4, height=4),
        panel("Tokens per second", "short", "Of all answers together.", (rate("coterie_generated_tokens_total"), ""), kind="stat", width=4, height=4),
    )),
    Row("Answers", (
        panel("Requests by end", "reqps", "By the status they ended with.", (rate("coterie_requests_total", "code"), "{{code}}")),
        panel("Time to first token", "s", "From acceptance to the first token.", *quantiles("coterie_time_to_first_token_seconds")),
        panel("Time per output token", "s", "Mean between an answer's tokens, the first one left out.", *quantiles("coterie_time_per_output_token_seconds")),
        panel("Whole answer", "s", "From acceptance to the end.", *quantiles("coterie_request_seconds")),
        panel("Queue", "s", "From acceptance until a worker began the prompt.", *quantiles("coterie_queue_seconds")),
        panel("Tokens", "short", "Per second. Cached: prompt tokens found in a worker's prefix cache.",
              (rate("coterie_generated_tokens_total"), "generated"), (rate("coterie_prompt_tokens_total"), "prompt"),
              (rate("coterie_cached_prompt_tokens_total"), "prompt, cached")),
    )),
    Row("What goes wrong", (
        panel("Workers by health", "short", "The most that any gateway sees.", ("max by (health) (coterie_workers)", "{{health}}")),
        panel("Answers that moved", "ops", "To another worker after theirs was lost; reattached: the connection came back in time.",
              (rate("coterie_failovers_total", "numerics"), "moved, {{numerics}} numerics"), (rate("coterie_reattachments_total"), "reattached")),
        panel("Refused calls", "ops", "Connections turned away by reason, and calls that no service could read.",
              (rate("coterie_connections_refused_total", "reason"), "connection: {{reason}}"), (rate("coterie_malformed_requests_total", "code"), "call: {{code}}")),
    )),
    Row("Front door", (
        panel("HTTP requests", "reqps", "By status.", (rate("coterie_http_requests_total", "code"), "{{code}}"), when="with --http-listen"),
        panel("HTTP under way", "short", "Requests being answered and event streams that have begun.",
              ("sum(coterie_http_requests_under_way)", "requests"), ("sum(coterie_http_streams)", "streams"), when="with --http-listen"),
        panel("Places for connections in use", "percentunit", "By listener, the fullest process. At 1 newcomers are refused.",
              ("max by (listener) (coterie_connections_open / coterie_connections_limit)", "{{listener}}")),
        panel("Descriptors in use", "percentunit", "Files and sockets, the fullest process.",
              ("max by (job) (coterie_descriptors_open / coterie_descriptors_limit)", "{{job}}")),
        panel("Requests by tenant", "reqps", "The ten with most.", (f"topk(10, {rate('coterie_tenant_requests_total', 'tenant')})", "{{tenant}}")),
        panel("Bodies held", "bytes", "Bodies of HTTP requests in memory.", ("sum(coterie_http_body_bytes)", "bytes"), when="with --http-listen"),
    )),
))

EXPERTS = Dashboard("coterie-experts", "Coterie: experts", "Who is asked, who is in memory, and what a cold start costs.", (
    Row("Traffic", (
        panel("Answers by expert", "reqps", "The ten with most; base: no expert; other: all without series of their own.",
              (f"topk(10, {rate('coterie_expert_requests_total', 'expert')})", "{{expert}}")),
        panel("Tokens by expert", "short", "Per second, counted when answers end.", (f"topk(10, {rate('coterie_expert_tokens_total', 'expert')})", "{{expert}}")),
        panel("First token by expert, p95", "s", "From acceptance. An expert far above the others is cold, or its worker is full.",
              quantiles("coterie_expert_time_to_first_token_seconds", "expert", (0.95,))[0]),
        panel("Answers of canaries", "percentunit", "Of an expert's answers, those that its canary gave.",
              (ratio(rate("coterie_canary_requests_total", "expert"), rate("coterie_expert_requests_total", "expert")), "{{expert}}")),
        panel("Fallbacks", "ops", "Questions that another answered since no worker could load the expert.",
              (rate("coterie_expert_fallbacks_total", "expert"), "{{expert}}")),
        panel("Workers that hold it", "short", "In a device slot, the live version, as the gateways know it.",
              ("max by (expert) (coterie_expert_resident_workers)", "{{expert}}")),
    )),
    Row("Loading", (
        panel("Starts without a wait", "percentunit", "Of an expert's sequences: its adapter was in memory.",
              (ratio(rate("coterie_worker_expert_adapter_hits_total", "expert"),
                     f"{rate('coterie_worker_expert_adapter_hits_total', 'expert')} + {rate('coterie_worker_expert_adapter_misses_total', 'expert')}"), "{{expert}}")),
        panel("Wait of a cold start", "s", "Mean from arrival to start, of sequences that waited for a load.",
              (ratio(rate("coterie_worker_expert_adapter_wait_seconds_total", "expert"), rate("coterie_worker_expert_adapter_misses_total", "expert")), "{{expert}}")),
        panel("Load time", "s", "To bring one adapter into memory.", *quantiles("coterie_worker_adapter_load_seconds")),
        panel("Loads", "ops", "From the packed form or from PEFT files; failed ones beside them.",
              (rate("coterie_worker_adapter_loads_total", "from"), "from {{from}}"), (rate("coterie_worker_adapter_failures_total"), "failed"),
              (rate("coterie_adapter_prefetches_total"), "told ahead")),
        panel("Evictions", "ops", "Many, with many misses: more experts are hot than fit into memory.",
              (rate("coterie_worker_adapter_evictions_total", "instance"), "{{instance}}")),
        panel("Memory of adapters", "bytes", "Packed, by worker.", ("sum by (instance) (coterie_worker_adapter_memory_bytes)", "{{instance}}")),
    )),
    Row("Store", (
        panel("Experts", "short", "In the catalogue, and of them those that cannot be used.", ("max(coterie_experts)", "in the catalogue"),
              ("max(coterie_experts_unroutable)", "cannot be routed to"), ("max(coterie_catalogue_experts_damaged)", "damaged")),
        panel("Generation", "none", "Of the catalogue, by gateway. They differ for a moment after a publication only.",
              ("coterie_catalogue_generation", "{{instance}}")),
        panel("Catalogue lost", "short", "1: it is damaged or missing, and an earlier generation is served.", ("max(coterie_catalogue_lost)", "lost")),
    )),
))

ROUTING = Dashboard("coterie-routing", "Coterie: routing quality", "Do questions reach the experts that answer them best?", (
    Row("Scores", (
        panel("Scores", "short", "How many of the chosen experts' scores fall where.",
              ("sum by (le) (increase(coterie_router_score_ratio_bucket[$__rate_interval]))", "{{le}}"), kind="heatmap"),
        panel("Score of the nearest", "none", "The tenth that is worst, the middle, the tenth that is best.",
              *quantiles("coterie_router_score_ratio", of=(0.1, 0.5, 0.9))),
        panel("Margin to the next", "none", "Small margins: two experts for one field.", *quantiles("coterie_router_margin_ratio", of=(0.1, 0.5, 0.9))),
        panel("Mean score by expert", "none", "Of the questions it was nearest to.",
              (ratio(rate("coterie_expert_score_ratio_sum", "expert"), rate("coterie_expert_score_ratio_count", "expert")), "{{expert}}")),
        panel("Left to the base", "percentunit", "Of the routed questions: nobody was near enough. Growing: a field without an expert.",
              (ratio(rate("coterie_router_abstained_total"), rate("coterie_router_score_ratio_count")), "abstained")),
        panel("Left to the base, by the nearest", "ops", "Whose field the questions almost reach.", (rate("coterie_expert_abstentions_total", "expert"), "{{expert}}")),
    )),
    Row("Drift", (
        panel("Experts drifted", "short", "Their questions have left the field they were made for.", ("max(coterie_experts_drifted)", "drifted"), width=12),
        panel("Fall of the mean score", "none", "What the card says minus what is seen.", ("max by (expert) (coterie_expert_score_shift_ratio)", "{{expert}}"), width=12,
              when="cards say what to compare with"),
    )),
    Row("Shadow: the same prompts under others", (
        panel("Regret", "none", "Nats per token that the choice cost against the best of chosen, runner-up and base.",
              ("max by (expert) (coterie_shadow_regret_nats)", "{{expert}}"), when="--shadow-share above 0"),
        panel("Loss under chosen, runner-up, base", "none", "Means over experts, weighted by prompts.",
              (ratio("sum(coterie_shadow_chosen_loss_nats * on (instance, expert) coterie_shadow_expert_prompts)", "sum(coterie_shadow_expert_prompts)"), "chosen"),
              (ratio("sum(coterie_shadow_runner_up_loss_nats * on (instance, expert) coterie_shadow_expert_prompts)", "sum(coterie_shadow_expert_prompts)"), "runner-up"),
              (ratio("sum(coterie_shadow_base_loss_nats * on (instance, expert) coterie_shadow_expert_prompts)", "sum(coterie_shadow_expert_prompts)"), "base"),
              when="--shadow-share above 0"),
        panel("Canary against live", "none", "Below 0 the canary reads its prompts better.", ("max by (expert) (coterie_shadow_canary_difference_nats)", "{{expert}}"),
              when="a canary and --shadow-share above 0"),
        panel("Prompts", "ops", "Taken for the shadow, by what became of them.", (rate("coterie_shadow_prompts_total", "outcome"), "{{outcome}}"),
              when="--shadow-share above 0"),
        panel("Prompts waiting", "short", "For idle workers.", ("sum(coterie_shadow_prompts_waiting)", "waiting"), when="--shadow-share above 0"),
        panel("Prompts behind the means", "short", "Of each expert.", ("sum by (expert) (coterie_shadow_expert_prompts)", "{{expert}}"), when="--shadow-share above 0"),
    )),
    Row("Cost of routing", (
        panel("Embedding", "s", "One text.", *quantiles("coterie_embed_seconds")),
        panel("Search and policy", "s", "One request.", *quantiles("coterie_route_seconds")),
        panel("Texts in a pass of the encoder", "short", "More than one where requests come together.",
              (ratio(rate("coterie_embedder_texts_total"), rate("coterie_embedder_passes_total")), "texts")),
    )),
))

GPU = "workers on a GPU"
WORKERS = Dashboard("coterie-workers", "Coterie: workers and devices", "What each worker does, holds and waits for.", (
    Row("Load", (
        panel("Sequences running", "short", "In the step loop.", ("sum by (instance) (coterie_worker_sequences_running)", "{{instance}}")),
        panel("Sequences waiting", "short", "For a seat, KV blocks or an adapter.", ("sum by (instance) (coterie_worker_sequences_waiting)", "{{instance}}")),
        panel("Sequences paused", "short", "Their readers have not taken what was written.", ("sum by (instance) (coterie_worker_sequences_paused)", "{{instance}}")),
        panel("Tokens generated", "short", "Per second.", (rate("coterie_worker_generated_tokens_total", "instance"), "{{instance}}")),
        panel("Prompt tokens computed", "short", "Per second, recomputed ones included.", (rate("coterie_worker_prompt_tokens_total", "instance"), "{{instance}}")),
        panel("First token at the worker, p95", "s", "From a sequence's arrival there.",
              quantiles("coterie_worker_time_to_first_token_seconds", "instance", (0.95,))[0]),
        panel("Time of a step", "s", "All workers.", *quantiles("coterie_worker_step_seconds")),
        panel("Steps", "ops", "Per second.", (rate("coterie_worker_steps_total", "instance"), "{{instance}}")),
        panel("Sequences ended", "ops", "By reason.", (rate("coterie_worker_sequences_total", "reason"), "{{reason}}")),
    )),
    Row("Memory", (
        panel("KV blocks in use", "percentunit", "By sequences. Near 1, with preemptions: more --kv-tokens, or fewer --max-seqs.",
              ("max by (instance) (coterie_worker_kv_usage_ratio)", "{{instance}}")),
        panel("Prefix cache", "percentunit", "Of the tokens looked up, those found.",
              (ratio(rate("coterie_worker_prefix_cache_hit_tokens_total", "instance"), rate("coterie_worker_prefix_cache_queried_tokens_total", "instance")), "{{instance}}")),
        panel("Preemptions", "ops", "Sequences that lost their KV blocks and are computed again.",
              (rate("coterie_worker_preemptions_total", "instance", '{worker=""}'), "{{instance}}")),
        panel("Slots in use", "short", "Adapters in device slots.", ('sum by (instance) (coterie_worker_adapters_resident{worker=""})', "{{instance}}")),
        panel("Shareable prefixes", "percentunit", "KV blocks that hold one.", ("max by (instance) (coterie_worker_kv_cached_ratio)", "{{instance}}")),
        panel("Weights, KV cache, adapters", "bytes", "All workers together.", ("sum(coterie_worker_weights_bytes)", "weights"),
              ("sum(coterie_worker_kv_cache_bytes)", "KV cache"), ("sum(coterie_worker_adapter_memory_bytes)", "adapters")),
    )),
    Row("Trust", (
        panel("Gateways attached", "short", "By worker.", ("max by (instance) (coterie_worker_gateways)", "{{instance}}")),
        panel("Ejected", "short", "1 while a gateway avoids the worker since it failed again and again.", ("max by (worker) (coterie_worker_ejected)", "{{worker}}")),
        panel("Bytes between workers", "Bps", "0 where every answer is one expert's.", (rate("coterie_worker_bytes_between_workers_total", "instance"), "{{instance}}")),
        panel("Answers that were no numbers", "ops", "Sequences ended since logits were not finite: a broken adapter, or a broken device.",
              (rate("coterie_worker_not_finite_total", "instance"), "{{instance}}")),
    )),
    Row("GPUs", (
        panel("Busy", "percentunit", "Of the time, in which it computed.", ("max by (instance, device) (coterie_worker_device_busy_ratio)", "{{instance}} {{device}}"), when=GPU),
        panel("Memory", "percentunit", "Used by all processes.",
              ("max by (instance, device) (coterie_worker_device_memory_used_bytes / coterie_worker_device_memory_total_bytes)", "{{instance}} {{device}}"), when=GPU),
        panel("Temperature", "celsius", "", ("max by (instance, device) (coterie_worker_device_temperature_celsius)", "{{instance}} {{device}}"), when=GPU),
        panel("Power", "watt", "What it draws.", ("max by (instance, device) (coterie_worker_device_power_watts)", "{{instance}} {{device}}"), when=GPU),
        panel("Held down", "short", "1 where this holds its clocks down.", ("max by (instance, device, reason) (coterie_worker_device_throttled)", "{{instance}} {{reason}}"), when=GPU),
        panel("Memory errors", "short", "Since the driver was loaded. An uncorrected one: reset the device.",
              ("max by (instance, device, kind) (coterie_worker_device_ecc_errors)", "{{instance}} {{kind}}"), when=GPU),
        panel("Clocks", "hertz", "", ("max by (instance, device, clock) (coterie_worker_device_clock_hertz)", "{{instance}} {{clock}}"), when=GPU),
        panel("Age of the reading", "s", "Growing: the driver does not answer.", ("max by (instance, device) (coterie_worker_device_reading_age_seconds)", "{{instance}}"), when=GPU),
    )),
))

ALL = (OVERVIEW, EXPERTS, ROUTING, WORKERS)
