"""What bench_embed.py measured, as one dictionary, as tables, and as a verdict for each target."""

# Multiply-adds of one word piece: projections and the inner layer of six layers; attention for each piece looked at.
DENSE_PRODUCTS = 6 * (3 + 1 + 4 + 4) * 384 * 384
ATTENTION_PRODUCTS = 6 * 2 * 384
# The unit whose rate is an engine's roof; the first that was measured.
ROOFS = {
    "int8": ("int8_vpdpbusd_512",),
    "avx2": ("int16_vpmaddwd_256",),
    "bf16": ("bf16_vdpbf16ps_512",),
    "f32": ("f32_fma_512", "f32_fma_256"),
    "ort_int8": ("int8_vpdpbusd_512",),
    "ort_avx2": ("int8_vpmaddubsw_256",),
    "openvino_int8": ("int8_vpdpbusd_512",),
    "ort_fp32": ("f32_fma_512", "f32_fma_256"),
    "torch_fp32": ("f32_fma_512", "f32_fma_256"),
    "torch_bf16": ("bf16_vdpbf16ps_512",),
}


def products(length):
    return DENSE_PRODUCTS + ATTENTION_PRODUCTS * length


def share_of_roof(key, threads, length, rate, roof):
    """Of what the processor could do if every product of the model ran at the rate of the engine's unit."""
    rates = roof.get(threads, {})
    kind = next((one for one in ROOFS[key] if one in rates), None)
    # The roof is a sum over threads of rates by CPU time, so a thread's own is its part.
    return rate * products(length) / (rates[kind] * 1e9 / threads) if kind else None


def collect(cells, cosines, roof, latency, first, memory, engines):
    rates = []
    for cell in cells:
        key = cell.engine["key"]
        cpu, cpu_setting, steady = cell.best(0)
        wall, wall_setting, _ = cell.best(1)
        rates.append(
            {
                "engine": key,
                "threads": cell.threads,
                "pieces": cell.length,
                "tokens_per_cpu_s": cpu,
                "cpu_setting": cpu_setting,
                "worst_round_share": steady,
                "tokens_per_s": wall,
                "wall_setting": wall_setting,
                "roof_share": share_of_roof(key, cell.threads, cell.length, cpu, roof),
            }
        )
    kernels = {key: e["workers"][1].kernels for key, e in engines.items() if hasattr(e["workers"][1], "kernels")}
    return {
        "rates": rates,
        "cosines": cosines,
        "roof_giga_products_per_cpu_s": roof,
        "query_s": latency,
        "first_s": first,
        "memory_kb": memory,
        "kernels": kernels,
    }


def setting_text(setting):
    if not setting:
        return ""
    ways = {"together": "", "spinning": ", spinning", "apart": ", two at once"}
    return f"batch {setting['batch']}{ways[setting['way']]}"


def show_rates(result, labels):
    seen = sorted({(row["pieces"], row["threads"]) for row in result["rates"]})
    for pieces, threads in seen:
        rows = [row for row in result["rates"] if (row["pieces"], row["threads"]) == (pieces, threads)]
        ours = next(row for row in rows if row["engine"] == "int8")
        print(f"\n{pieces} word pieces, {threads} thread{'s' if threads > 1 else ''}: ids to vectors")
        print(f"  {'':32}{'tokens/CPU s':>13}{'roof':>6}{'tokens/s':>10}{'int8 is':>9}{'cosine mean, least':>21}  best setting")
        for row in rows:
            ratio = "" if row is ours else f"{ours['tokens_per_cpu_s'] / row['tokens_per_cpu_s']:.2f} x"
            share = f"{row['roof_share']:.0%}" if row["roof_share"] else ""
            mean, least = result["cosines"][row["engine"]][pieces]
            by_cpu, by_wall = setting_text(row["cpu_setting"]), setting_text(row["wall_setting"])
            setting = by_cpu if by_cpu == by_wall else f"{by_cpu}; by wall {by_wall}"
            print(
                f"  {labels[row['engine']]:32}{row['tokens_per_cpu_s']:13,.0f}{share:>6}{row['tokens_per_s']:10,.0f}"
                f"{ratio:>9}{mean:>12.5f} {least:.5f}   {setting}"
            )


def way_text(way):
    threads, how = way.split(" ")
    return f"{threads} thread{'s' if threads != '1' else ''}{', spinning' if how == 'spinning' else ''}"


def best_query(ways):
    """(wall seconds, its way, CPU seconds)."""
    way = min(ways, key=lambda one: ways[one][0])
    return ways[way][0], way, min(pair[1] for pair in ways.values())


def show_small(result, labels):
    names = {**labels, "memalloy": "memalloy int8"}
    print("\none query of 16 word pieces, text to vector, from Python, medians of the best round")
    ours = best_query(result["query_s"]["memalloy"])[0]
    for key, ways in result["query_s"].items():
        wall, way, cpu = best_query(ways)
        print(f"  {names[key]:32}{wall * 1e3:9.3f} ms{cpu * 1e3:9.3f} CPU ms   memalloy takes {ours / wall:.2f}   {way_text(way)}")
    print("\nfresh process: python, imports, model opened, first query; milliseconds")
    for key, times in result["first_s"].items():
        print(f"  {names[key]:32}{times[len(times) // 2] * 1e3:9.1f} median{times[0] * 1e3:9.1f} least")
    print("\nmemory in bulk, two threads: MB beyond what the process had before the model was opened")
    for key, kb in result["memory_kb"].items():
        bulk, peak = (kb["peak_kb"] - kb["before_kb"]) / 1024, kb["peak_kb"] / 1024
        load = (kb["open_peak_kb"] - kb["opened_kb"]) / 1024
        print(f"  {names[key]:32}{bulk:9.1f}   the process's peak {peak:.0f}, passing peak while opening {load:.1f}")
    print("\nroof of this machine, G multiply-adds per CPU second, one thread")
    for kind, rate in result["roof_giga_products_per_cpu_s"][1].items():
        print(f"  {kind:32}{rate:9.1f}")


def rate_of(result, engine, pieces, threads=1, which="tokens_per_cpu_s"):
    for row in result["rates"]:
        if (row["engine"], row["pieces"], row["threads"]) == (engine, pieces, threads):
            return row[which]
    return None


def verdicts(result):
    """(what, value or None where it was not measured, target, better, the value as text)."""

    def ratio(a, b):
        return a / b if a and b else None

    def against(ours, rival, pieces):
        by_cpu = ratio(rate_of(result, ours, pieces), rate_of(result, rival, pieces))
        walls = [
            ratio(*(rate_of(result, one, pieces, threads, "tokens_per_s") for one in (ours, rival))) for threads in (1, 2)
        ]
        shown = ", ".join(f"{wall:.2f}" for wall in walls if wall)
        return by_cpu, f"{by_cpu:.2f} by CPU time on one thread (wall: {shown})" if by_cpu else ""

    rows = []
    for pieces, rival, name, target in (
        (128, "ort_int8", "ONNX Runtime int8", 2.1),
        (128, "openvino_int8", "OpenVINO int8", 1.45),
        (256, "ort_int8", "ONNX Runtime int8", 2.4),
    ):
        value, text = against("int8", rival, pieces)
        rows.append((f"{pieces} word pieces, times {name}", value, target, ">=", text))
    share = rate_of(result, "int8", 128, 1, "roof_share")
    roof = result["roof_giga_products_per_cpu_s"][1]
    rate, unit = rate_of(result, "int8", 128), roof.get("int8_vpdpbusd_512")
    if share and "bf16_vdpbf16ps_512" in roof:
        softer = rate * (DENSE_PRODUCTS / unit + ATTENTION_PRODUCTS * 128 / roof["bf16_vdpbf16ps_512"]) / 1e9
        text = f"{share:.1%} with all products at int8 ({softer:.1%} with attention's at bf16)"
    else:
        text = f"{share:.1%}" if share else ""
    rows.append(("128 word pieces, share of the int8 roof", share, 0.85, ">=", text))
    queries = result["query_s"]
    value = ratio(best_query(queries["memalloy"])[0], best_query(queries["ort_int8"])[0] if "ort_int8" in queries else None)
    rows.append(("one query, of ONNX Runtime int8's time", value, 0.28, "<=", f"{value:.3f}" if value else ""))
    times = result["first_s"]["memalloy"]
    value = times[len(times) // 2] * 1e3
    rows.append(("fresh process to first vector, ms", value, 60.0, "<=", f"{value:.1f} median, {times[0] * 1e3:.1f} least"))
    kb = result["memory_kb"]["memalloy"]
    value = (kb["peak_kb"] - kb["before_kb"]) / 1024
    rows.append(("memory in bulk, MB", value, 45.0, "<=", f"{value:.1f}"))
    value = (kb["open_peak_kb"] - kb["opened_kb"]) / 1024
    rows.append(("passing peak while opening, MB", value, 1.0, "<=", f"{value:.1f}"))
    value, text = against("avx2", "ort_avx2", 128)
    rows.append(("AVX2 set, times ONNX Runtime held to AVX2", value, 1.0, ">=", text))
    return rows


def show_verdicts(result):
    print("\ntargets")
    result["verdicts"] = []
    for what, value, target, better, text in verdicts(result):
        if value is None:
            verdict, text = "not measured", ""
        else:
            met = value >= target if better == ">=" else value <= target
            verdict = "met" if met else "MISSED"
        result["verdicts"].append({"what": what, "value": value, "target": f"{better} {target:g}", "verdict": verdict})
        print(f"  {verdict:13}{what:44}{better} {target:<6g} {text}")


def show(result, labels):
    facts = result["machine"]
    print(f"\n{facts['processor']} (family/model {facts['family']}), {facts['cores']} cores, {' '.join(facts['features'])}")
    print(f"{facts['system']}, load before {facts['load_before']:.2f}, after {facts['load_after']:.2f}")
    print(", ".join(f"{name} {version}" for name, version in sorted(result["versions"].items())))
    print("kernel sets: " + ", ".join(f"{key} {name}" for key, name in result["kernels"].items()))
    for key, why in result["missing"].items():
        print(f"left out: {labels[key]}: {why}")
    print(f"{result['rounds']} rounds in {result['minutes']:.1f} minutes")
    show_rates(result, labels)
    show_small(result, labels)
    show_verdicts(result)
