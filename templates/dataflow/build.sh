#!/usr/bin/env bash
# Builds both images, pushes them, and stages the template file.
#   PROJECT=my-project REGION=europe-west1 BUCKET=my-bucket templates/dataflow/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PROJECT:?the Google Cloud project}" "${REGION:?of the image repository, for example europe-west1}"
: "${BUCKET:?in which the template file is staged, without gs://}"
TAG=${TAG:-$(git rev-parse --short HEAD)}
IMAGES=$REGION-docker.pkg.dev/$PROJECT/${REPOSITORY:-beam-etl}

# Pinned with hashes for the Python of the images: what was tested is what runs.
python3 -m pip install --quiet 'pip-tools>=7.4,<8'
python3 -m piptools compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
  --output-file templates/dataflow/requirements.lock requirements.txt

for image in worker launcher; do
  docker build --target "$image" --tag "$IMAGES/$image:$TAG" --file templates/dataflow/Dockerfile .
  docker push "$IMAGES/$image:$TAG"
done
gcloud dataflow flex-template build "gs://$BUCKET/templates/beam_etl-$TAG.json" --project "$PROJECT" \
  --image "$IMAGES/launcher:$TAG" --sdk-language PYTHON --metadata-file templates/dataflow/metadata.json
echo "template: gs://$BUCKET/templates/beam_etl-$TAG.json"
echo "worker image: $IMAGES/worker:$TAG"
