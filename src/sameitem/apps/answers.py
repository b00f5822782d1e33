"""A search answer as JSON values: one shape for the REST interface and the command line."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sameitem.apps.schemas import ResultAnswer
from sameitem.clicks.log import Search
from sameitem.core.errors import InputError
from sameitem.core.records import Box, CatalogueImage, ContentHash, Product
from sameitem.pipeline.online import Result, SearchAnswer
from sameitem.pipeline.same_item import Judgement
from sameitem.pipeline.shop import Shop


def user_answer(shop: Shop, user_id: str, *, request_id: str) -> dict[str, Any]:
    """Return everything that is kept of a user; of other users' searches only this user's events."""
    pseudonym = shop.clicks.pseudonym(user_id)
    sessions = shop.clicks.sessions_of(user_id)
    return {
        "request_id": request_id,
        "pseudonym": pseudonym,
        "searches": [_logged(shop, session.search) for session in sessions if session.search.user_id == pseudonym],
        "events": [asdict(event) for session in sessions for event in session.events],
    }


def _logged(shop: Shop, search: Search) -> dict[str, Any]:
    photo = search.photo_hash
    values = asdict(search) | {"photo_is_kept": bool(photo) and shop.query_photos.has(ContentHash(photo))}
    values["box"] = None if search.box is None else box_answer(search.box)
    return values


EFFECTS = 8  # features of the ranker that an explanation names


def search_answer(
    answer: SearchAnswer, *, request_id: str, fields: Sequence[str] | None, explain: bool = False
) -> dict[str, Any]:
    """Return an answer as the REST interface and `sameitem search --json` print it.

    Args:
        answer: of the online pipeline.
        request_id: of this request.
        fields: fields of a result to keep; None = all.
        explain: say of the query and of each result how its score came about.

    Raises:
        InputError: a field that a result does not have.
    """
    unknown = set(fields or ()) - set(ResultAnswer.model_fields)
    if unknown:
        known = ", ".join(ResultAnswer.model_fields)
        raise InputError(f"unknown field {sorted(unknown)[0]!r}; a result has {known}", field="fields")
    results = [_result(result, explain=explain) for result in answer.results]
    return {
        "request_id": request_id,
        "search_id": answer.search_id,
        "index_version": answer.index_version,
        "index_time": answer.index_time,
        "model_version": answer.model_version,
        "ranker_version": answer.ranker_version,
        "took_ms": answer.took_ms,
        "query": {
            "category_id": answer.category_id,
            "category_source": answer.category_source,
            "categories": [asdict(category) for category in answer.categories],
            "searched_categories": list(answer.searched_categories),
            "box": box_answer(answer.box),
            "region": _region(answer.box),
            "box_source": answer.box_source,
            "width": answer.width,
            "height": answer.height,
            "objects": [
                {
                    "object_id": found.object_id,
                    "box": box_answer(found.box),
                    "category_id": answer.category_id or None if found.box == answer.box else None,
                    "score": round(found.score, 6),
                }
                for found in answer.objects
            ],
            "explain": _explained_query(answer) if explain else None,
        },
        "head": {"found": answer.found, "returned": len(results), "good_match": answer.good_match},
        "results": [{key: result[key] for key in fields} for result in results] if fields else results,
    }


def _explained_query(answer: SearchAnswer) -> dict[str, Any]:
    return {
        "box_source": answer.box_source,
        "category_source": answer.category_source,
        "model": [asdict(category) for category in answer.model_categories],
        "vote": [asdict(category) for category in answer.knn_categories],
        "searched_categories": list(answer.searched_categories),
        "voters": [
            {
                "image_id": voter.image_id,
                "image_url": f"/v1/images/{voter.image_id}",
                "category": voter.category,
                "share": round(voter.share, 6),
            }
            for voter in answer.voters
        ],
    }


def _explained_result(result: Result, why: Judgement) -> dict[str, Any]:
    return {
        "squared_distance": round(why.squared_distance, 6),
        "cosine": round(why.cosine, 6),
        "colour_distance": None if why.colour_distance is None else round(why.colour_distance, 6),
        "colour_weight": why.colour_weight,
        "distance": round(why.distance, 6),
        "rival_distance": round(why.rival_distance, 6),
        "lead": round(why.lead, 6),
        "curve": {"source": why.curve_source, **asdict(why.curve)},
        "probability": round(why.score, 6),
        "visual_rank": result.visual_rank,
        "quality": [
            {
                "feature": one.feature,
                "value": None if one.value is None else round(one.value, 6),
                "effect": round(one.effect, 6),
            }
            for one in result.effects[:EFFECTS]
        ],
    }


def _result(result: Result, *, explain: bool) -> dict[str, Any]:
    product, image = result.product, result.image
    return {
        "rank": result.rank,
        "product_id": product.product_id,
        "image_name": image.name,
        "category_id": result.category_id,
        "score": round(result.score, 6),
        "visual_score": round(result.visual_score, 6),
        "quality_score": None if result.quality is None else round(result.quality, 6),
        "same_item": None,
        "duplicates": len(result.duplicates),
        "duplicate_products": [asdict(listing) for listing in result.duplicates],
        "price": product.price,
        "currency": product.currency,
        "title": product.title,
        "brand": product.brand,
        "url": product.url,
        "image_url": f"/v1/images/{image.image_id}",
        "attributes": dict(product.attributes),
        "custom_content": image.custom_content,
        "explain": _explained_result(result, result.judgement) if explain else None,
    }


def product_answer(product: Product) -> dict[str, Any]:
    """Return a product as answers have it."""
    values = asdict(product)
    return {"category_id": values.pop("category"), **values}


def image_answer(image: CatalogueImage) -> dict[str, Any]:
    """Return an image of the catalogue as answers have it."""
    return {
        "name": image.name,
        "image_id": image.image_id,
        "kind": image.kind.value,
        "width": image.width,
        "height": image.height,
        "image_url": f"/v1/images/{image.image_id}",
        "custom_content": image.custom_content,
    }


def box_answer(box: Box) -> dict[str, Any]:
    """Return a box in pixels as answers have it."""
    return {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom, "unit": "px"}


def _region(box: Box) -> str:
    return f"{box.left:g},{box.right:g},{box.top:g},{box.bottom:g}"
