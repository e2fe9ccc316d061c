# state.pt and events.jsonl lie beside the outputs and are not declared: Snakemake would delete them between attempts.
# exec: a shell in between would die of the signal on which training saves its state, and the job would end without it.


rule train:
    input:
        train="results/data/{dataset}/train.npy",
        meta="results/data/{dataset}/meta.json",
    output:
        model="results/{preset}/{dataset}/{model}/seed{seed}/model.safetensors",
        curve="results/{preset}/{dataset}/{model}/seed{seed}/train.csv",
        summary="results/{preset}/{dataset}/{model}/seed{seed}/train.json",
    log:
        "results/{preset}/{dataset}/{model}/seed{seed}/logs/train.log",
    priority: 10
    threads: params.train_threads
    resources:
        device=params.device,
        gpu=params.train_gpus,
        mem_mb=params.train_memory_mb,
        runtime=1440,
    params:
        spec=params.train_spec,
        code=params.train_code,
        launcher=params.train_launcher,
        folder=params.folder,
    message:
        "train {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "exec {params.launcher} --spec {params.spec:q} --code {params.code} --data results/data/{wildcards.dataset}"
        " --preset {wildcards.preset} --device {resources.device} --out {params.folder} > {log} 2>&1"
