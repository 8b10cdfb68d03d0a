def file(ours, name):
    import base64, yaml
    for it in yaml.safe_load(ours.cloud_init())["write_files"]:
        if it["path"].endswith("/" + name):
            return base64.b64decode(it["content"]).decode() if it.get("encoding") == "b64" else it["content"]
